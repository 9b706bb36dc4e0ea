//! The demo from outside: the whole road in one process, judged by its own comparison.

use std::process::Command;

#[test]
fn the_demo_ends_with_topics_that_equal_the_org() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
    command.args(["demo", "--duration", "2s", "--rows", "60"]).env_remove("SF2KAFKA_LOG");
    let output = command.output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    let verdict = lines.last().unwrap();
    assert!(verdict.starts_with("topics equal the org: 7 objects, "), "{verdict}");
    let changes = lines.iter().filter(|line| line.contains("  U  ") || line.contains("  I  ")).count();
    assert!(changes >= 5, "changes are shown: {stdout}");
    for said in ["bootstrap 127.0.0.1:", "registry http://127.0.0.1:", "exactly-once is not shown here"] {
        assert!(stderr.contains(said), "{said}\n{stderr}");
    }
    assert!(!stderr.contains("ERROR") && !stderr.contains("WARN"), "{stderr}");
}
