//! Commands that need neither an org nor a broker, and mistakes that must be named before anything is sent.

use std::path::PathBuf;
use std::process::{Command, Output};

fn sf2kafka(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
    command.args(arguments).env_remove("SF2KAFKA_LOG").env("SF_CLIENT_SECRET", "hunter2");
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file that is gone with the value.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sf2kafka-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const GOOD: &str = "\
name: crm
salesforce:
  login_domain: http://127.0.0.1:1
  auth: client-credentials
  client_id: x
  client_secret: ${SF_CLIENT_SECRET}
kafka: { bootstrap_servers: '127.0.0.1:1' }
schema_registry: { url: 'http://127.0.0.1:1' }
http: { listen: off }
objects: [ Account ]
";

#[test]
fn help_and_version_are_data_and_a_missing_command_is_a_usage_mistake() {
    let help = sf2kafka(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["run", "check", "discover", "offsets", "explain"] {
        assert!(stdout(&help).lines().any(|line| line.trim_start().starts_with(command)), "{command}");
    }
    assert!(stdout(&sf2kafka(&["--version"])).starts_with("sf2kafka "));
    for arguments in [&[][..], &["fly"], &["run"], &["run", "-c"], &["offsets", "list"]] {
        let output = sf2kafka(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn explain_prints_a_page_or_names_the_nearest_code() {
    let page = sf2kafka(&["explain", "error[topic-missing]:"]);
    assert_eq!(page.status.code(), Some(0));
    assert!(stdout(&page).starts_with("# topic-missing\n\n## What happened\n"));
    let unknown = sf2kafka(&["explain", "topic-mising"]);
    assert_eq!(unknown.status.code(), Some(2));
    let words = "error[usage]: there is no error code `topic-mising`\n\
        hint: did you mean `sf2kafka explain topic-missing`?\n";
    assert_eq!(stderr(&unknown), words);
}

#[test]
fn every_command_names_the_line_of_a_wrong_configuration_and_ends_with_two() {
    let file = ConfigFile::new("wrong", &GOOD.replace("objects:", "objcts:"));
    for arguments in [
        &["run"][..],
        &["run", "--once"],
        &["check"],
        &["discover"],
        &["offsets", "list"],
        &["offsets", "show", "A"],
    ] {
        let output = sf2kafka(&[arguments, &["-c", file.path()]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let words = stderr(&output);
        assert!(words.starts_with("error[config-invalid]: 2 problems in the configuration\n"), "{words}");
        let line = format!("{}:10:1: unknown key `objcts` (did you mean `objects`?)", file.path());
        assert!(words.contains(&line), "{words}");
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_wrong_configuration_is_also_a_cross_of_a_report_for_machines() {
    let file = ConfigFile::new("machine", &GOOD.replace("Account", "A count"));
    let output = sf2kafka(&["check", "-c", file.path(), "--output", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report[0]["passed"], false);
    assert_eq!(report[0]["code"], "config-invalid");
}

#[test]
fn a_secret_that_is_not_there_is_named_and_one_that_is_there_never_shows() {
    let file = ConfigFile::new("secret", &GOOD.replace("client_id: x", "client_id: ${NO_SUCH_VARIABLE}"));
    let output = sf2kafka(&["check", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let words = stderr(&output);
    assert!(words.starts_with("error[secret-missing]: "), "{words}");
    assert!(words.contains(":5:14: environment variable NO_SUCH_VARIABLE is not set"), "{words}");

    let file =
        ConfigFile::new("shown", &GOOD.replace("auth: client-credentials", "auth: ${SF_CLIENT_ID:-none}"));
    let output = sf2kafka(&["check", "-c", file.path()]);
    assert!(!stderr(&output).contains("hunter2") && !stdout(&output).contains("hunter2"));
}

const CORRECT_THE_LINE: &str =
    "correct the named line of the configuration; `sf2kafka check -c FILE` tests the whole file";

/// What stands in the file instead of what, and what a person reads: place and sentence, hint.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "  auth: client-credentials\n",
        "",
        "2:1: `auth` is missing in `salesforce`",
        "`client-credentials` with client_id and client_secret, or `authorization-code` and then `sf2kafka login -c FILE`",
    ),
    (
        "name: crm\n",
        "",
        "1:1: `name` is missing",
        "a short name such as `crm`: it names topics, consumer group and transactional ids",
    ),
    (
        "objects: [ Account ]\n",
        "",
        "1:1: `objects` is missing",
        "list what to capture: `objects: [Account, Contact]`",
    ),
    (
        "{ bootstrap_servers: '127.0.0.1:1' }",
        "{}",
        "7:1: `bootstrap_servers` is missing in `kafka`",
        "for example `localhost:9092`",
    ),
    (
        "client-credentials",
        "client-credential",
        "4:9: `salesforce.auth` knows no value `client-credential`",
        "did you mean `client-credentials`?",
    ),
    (
        "http://127.0.0.1:1\n",
        "http://acme.my.salesforce.com\n",
        "3:17: `salesforce.login_domain`: plain http to `acme.my.salesforce.com`: secrets would travel unprotected",
        "use https; plain http is only for this machine itself (127.0.0.1, localhost)",
    ),
    (
        "listen: off",
        "listen: here",
        "9:17: `http.listen`: `here` is not an address with port such as `127.0.0.1:8180`, or `off`",
        CORRECT_THE_LINE,
    ),
    (
        "[ Account ]",
        "[ Account, account ]",
        "10:21: object `account` is listed twice, first in line 10",
        "keep one entry; give it several `outputs` if need be",
    ),
    (
        "[ Account ]",
        "[ { name: Account, poll: { interval: 5 } } ]",
        "10:47: `objects[].poll.interval`: `5` is not a duration from 1s to 1d, such as `30s`, `15m`, `1h`",
        CORRECT_THE_LINE,
    ),
    (
        "'127.0.0.1:1' }",
        "'127.0.0.1:1', properties: { enable.idempotence: 'false' } }",
        "7:58: `kafka.properties.enable.idempotence` is set by the program",
        "leave it out: exactly-once rests on it",
    ),
    (
        "[ Account ]",
        "[ Account",
        "10:10: unclosed bracket '['",
        "the file must be YAML; indent with spaces, and quote texts that hold `: ` or ` #`",
    ),
    // A secret in a wrong place is not repeated.
    (
        "[ Account ]",
        "[ \"${SF_CLIENT_SECRET} x\" ]",
        "10:12: `${SF_CLIENT_SECRET} x` is no API name and no glob",
        "for example `Account`, `Invoice__c`, `et4ae5__*__c`",
    ),
];

#[test]
fn a_mistake_is_told_with_its_line_and_what_to_write_instead_before_anything_is_sent() {
    for (number, (right, wrong, what, hint)) in MISTAKES.iter().enumerate() {
        assert!(GOOD.contains(right), "{right}");
        let file = ConfigFile::new(&format!("mistake-{number}"), &GOOD.replacen(right, wrong, 1));
        for (command, now) in [("run", "\n  now: the program stops"), ("check", "")] {
            let output = sf2kafka(&[command, "-c", file.path()]);
            assert_eq!(output.status.code(), Some(2), "{wrong}");
            let words = format!("error[config-invalid]: {}:{what}{now}\nhint: {hint}\n", file.path());
            assert_eq!(stderr(&output), words);
            assert!(stdout(&output).is_empty() && !words.contains("hunter2"));
        }
    }
}
