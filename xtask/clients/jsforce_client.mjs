// jsforce against the simulator: identity, describe, query with autoFetch, Bulk 2.0 query; every row compared.
//
// In: SIMULATOR_ORIGIN, OBJECTS (JSON list), CLIENT_ID, CLIENT_SECRET, API_VERSION.
// Out: a line per check on stdout; exit code 1 with the reason at the first that does not hold. What must be
// there is asked of the simulator's control interface.

import jsforce from 'jsforce';

const { SIMULATOR_ORIGIN, CLIENT_ID, CLIENT_SECRET, API_VERSION } = process.env;
const objects = JSON.parse(process.env.OBJECTS);

function held(what, condition, detail = '') {
  if (!condition) {
    console.error(`does not hold: ${what} ${detail}`);
    process.exit(1);
  }
  console.log(`  ${what} ${detail}`.trimEnd());
}

async function trueIds(name) {
  const response = await fetch(`${SIMULATOR_ORIGIN}/simulator/truth/${name}`);
  const lines = (await response.text()).split('\n').filter((line) => line !== '');
  return new Set(lines.map((line) => JSON.parse(line).Id));
}

function sameSet(some, others) {
  return some.size === others.size && [...some].every((one) => others.has(one));
}

const connection = new jsforce.Connection({
  version: API_VERSION,
  loginUrl: SIMULATOR_ORIGIN,
  instanceUrl: SIMULATOR_ORIGIN,
  oauth2: { loginUrl: SIMULATOR_ORIGIN, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET },
});

const userInfo = await connection.authorize({ grant_type: 'client_credentials' });
held('login by client credentials', Boolean(connection.accessToken && userInfo.organizationId));

const identity = await connection.identity();
held('identity', identity.organization_id === userInfo.organizationId, `(org ${identity.organization_id})`);

const global = await connection.describeGlobal();
const names = new Set(global.sobjects.map((object) => object.name));
held('describeGlobal names the objects', objects.every((name) => names.has(name)), `(${names.size} objects)`);

for (const name of objects) {
  const truth = await trueIds(name);
  const { fields } = await connection.describe(name);
  const plain = fields.filter((field) => !['address', 'location', 'base64'].includes(field.type)).map((field) => field.name);
  held(`describe of ${name}`, plain.includes('Id'), `(${fields.length} fields)`);

  const soql = `SELECT ${plain.join(', ')} FROM ${name}`;
  const byQuery = await connection.query(soql, { autoFetch: true, maxFetch: truth.size + 10 });
  const ids = new Set(byQuery.records.map((record) => record.Id));
  held(`query of ${name} with autoFetch`, byQuery.totalSize === truth.size && byQuery.records.length === truth.size && sameSet(ids, truth), `(${ids.size} of ${truth.size} rows)`);

  const stream = await connection.bulk2.query(soql, { pollInterval: 100, pollTimeout: 120000 });
  const byBulk = await stream.toArray();
  const same = byBulk.length === truth.size && sameSet(new Set(byBulk.map((row) => row.Id)), truth);
  held(`bulk2 query of ${name} gives the same rows`, same, `(${byBulk.length} rows)`);
}

try {
  await connection.query('SELECT Nonsense__c FROM Account');
  held('a field that is not there is refused', false);
} catch (refusal) {
  held('a field that is not there is refused', refusal.errorCode === 'INVALID_FIELD', `(${refusal.errorCode})`);
}
