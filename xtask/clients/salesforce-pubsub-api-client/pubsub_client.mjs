// salesforce-pubsub-api-client against the simulator: login, subscriptions, changed fields, replay from a stored id, more
// than one batch, publishing, a managed subscription.
//
// In: SIMULATOR_ORIGIN, PUBSUB_PORT, CLIENT_ID, CLIENT_SECRET.
// Out: a line per check on stdout; exit code 1 with the reason at the first that does not hold. What must come is saved
// over the simulator's control interface. The client brings its own list of authorities, so it is told, by its own
// setting, not to ask who signed the simulator's certificate.

import PubSubApiClient from 'salesforce-pubsub-api-client';

const { SIMULATOR_ORIGIN, PUBSUB_PORT, CLIENT_ID, CLIENT_SECRET } = process.env;
const PATIENCE = 60_000;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

function held(what, condition, detail = '') {
  if (!condition) {
    console.error(`does not hold: ${what} ${detail}`);
    process.exit(1);
  }
  console.log(`  ${what} ${detail}`.trimEnd());
}

async function control(path, body) {
  const options = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  const response = await fetch(`${SIMULATOR_ORIGIN}/simulator/${path}`, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
  return answer;
}

async function save(...changes) {
  return (await control('transactions', { changes }))[0].ids;
}

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  while (!(await condition())) {
    if (Date.now() > deadline) held(what, false, 'in time');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const standing = (count) => until('the subscription stands', async () => {
  const state = await control('pubsub');
  return state.standing === state.openStreams && state.standing >= count;
});

async function connected() {
  const client = new PubSubApiClient({
    authType: 'oauth-client-credentials',
    loginUrl: SIMULATOR_ORIGIN,
    clientId: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    pubSubEndpoint: `127.0.0.1:${PUBSUB_PORT}`,
    rejectUnauthorizedSsl: false,
  }, quiet);
  await client.connect();
  return client;
}

// A callback that keeps events and stops at errors.
function keeper(events) {
  return (_, type, data) => {
    if (type === 'event') events.push(data);
    if (type === 'error') held('no error', false, `${data.message} ${data.cause ?? ''}`);
  };
}

const accounts = '/data/AccountChangeEvent';
let client = await connected();
const events = [];
client.subscribe(accounts, keeper(events));
await standing(1);
const [id] = await save({ op: 'insert', object: 'Account', fields: { Name: 'Acme', BillingCity: 'Ulm', BillingStreet: 'Hof 1', Phone: '1' } });
await save({ op: 'update', object: 'Account', id, fields: { Site: 'here', BillingCity: 'Bonn', BillingStreet: null, Phone: null } });
await save({ op: 'delete', object: 'Account', id });
await until('three events', () => events.length === 3);
const header = (event) => event.payload.ChangeEventHeader;
held('events of three transactions', events.map((event) => header(event).changeType).join() === 'CREATE,UPDATE,DELETE');
held('a creation comes whole', events[0].payload.Name === 'Acme' && header(events[0]).recordIds[0] === id, JSON.stringify(events[0].payload.Name));
const changed = header(events[1]).changedFields;
const expected = ['Site', 'Phone', 'LastModifiedDate', 'BillingAddress.Street', 'BillingAddress.City'];
held('changed fields are decoded', expected.every((name) => changed.includes(name)), `(${changed.join(', ')})`);
// A part of a compound alone would be lost on this client: it reads such a map only behind another.
const nulled = header(events[1]).nulledFields;
held('and nulled ones', nulled.join() === 'Phone,BillingAddress.Street', `(${nulled.join(', ')})`);
held('numbers beyond 2^53 are kept', typeof header(events[1]).commitNumber === 'bigint', `(${header(events[1]).commitNumber})`);
const stored = events[0].replayId;
// Its streams stay open until the process ends.
client.close();

// More than the hundred that can be asked for at once, read from the stored id on.
const ids = await save(...Array.from({ length: 5 }, () => ({ op: 'insert', object: 'Account', fields: {} })));
for (let at = 0; at < 250; at += 1) {
  await save({ op: 'update', object: 'Account', id: ids[at % 5], fields: { Site: `site ${at}` } });
}
client = await connected();
const replayed = [];
client.subscribeFromReplayId(accounts, keeper(replayed), null, stored);
await until('257 events', () => replayed.length >= 257);
held('replay from a stored id', replayed[0].replayId === events[1].replayId && replayed.length === 257, `(${replayed.length} events behind ${stored})`);
held('in order', replayed.every((event, at) => at === 0 || event.replayId > replayed[at - 1].replayId));

const orders = [];
client.subscribe('/event/Order_Event__e', keeper(orders));
await standing(3);
const result = await client.publish('/event/Order_Event__e', {
  CreatedDate: Date.now(), CreatedById: '0055g0000000000AAA', Order_Number__c: { string: 'O-7' }, Total__c: { double: 1.5 }, Shipped__c: null,
}, '11111111-2222-4333-8444-555555555555');
await until('the published event', () => orders.length === 1);
held('a published event comes back', orders[0].payload.Order_Number__c === 'O-7' && orders[0].replayId === result.replayId, `(replay id ${result.replayId})`);

await control('pubsub/managed', { developerName: 'practice', topic: accounts, defaultReplay: 'EARLIEST' });
const managed = [];
await client.subscribeWithManagedSubscription('practice', keeper(managed), 10);
await until('ten managed events', () => managed.length === 10);
held('a managed subscription begins with the earliest', header(managed[0]).changeType === 'CREATE', `(${managed.length} events)`);
client.close();

const refused = await connected();
const seen = [];
refused.subscribe('/data/NothingChangeEvent', (_, type, data) => seen.push([type, data]));
await until('a refusal', () => seen.some(([type]) => type === 'error'));
const refusal = seen.find(([type]) => type === 'error')[1];
held('a topic that is not there is refused', refusal.code === 5 && refusal.metadata.get('error-code')[0].endsWith('topic.not.found'), `(${refusal.details})`);
refused.close();
process.exit(0);
