//! Holds the table of rooms: a file imports only from rooms below its own.
//!
//! In: the sources as text. Out: a failure that names file, line and the import that may not be. It reads
//! `crate::room` and `super::room` wherever they stand, comments and strings left out; it compiles nothing.
#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};

/// A room and what it may import. docs/architecture.md says why.
const ROOMS: [(&str, &[&str]); 12] = [
    ("error", &[]),
    ("domain", &["error"]),
    ("config", &["error", "domain"]),
    ("status", &["error", "domain"]),
    ("salesforce", &["error", "domain", "config", "status"]),
    ("schema", &["error", "domain", "config", "status"]),
    ("capture", &["error", "domain", "config", "status", "salesforce"]),
    ("envelope", &["error", "domain", "config", "status", "schema"]),
    ("publish", &["error", "domain", "config", "status"]),
    (
        "pipeline",
        &["error", "domain", "config", "status", "salesforce", "schema", "capture", "envelope", "publish"],
    ),
    (
        "cli",
        &[
            "error",
            "domain",
            "config",
            "status",
            "salesforce",
            "schema",
            "capture",
            "envelope",
            "publish",
            "pipeline",
        ],
    ),
    // In no ordinary build.
    (
        "fuzzing",
        &[
            "error",
            "domain",
            "config",
            "status",
            "salesforce",
            "schema",
            "capture",
            "envelope",
            "publish",
            "pipeline",
        ],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text with comments and the insides of strings blanked, line breaks kept.
fn code_only(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(quoted) = raw_string(rest) {
            quoted
        } else if first == '"' {
            plain_string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        kept.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    kept
}

fn plain_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| 2 + hashes + at + end.len()))
}

/// What `crate::` and `super::` lead to, with the line, also inside `crate::{a, b::c}`.
fn imports(code: &str) -> Vec<(usize, &'static str, String)> {
    let mut found = Vec::new();
    for start in ["crate", "super"] {
        for (at, _) in code.match_indices(start) {
            let standalone = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            let Some(rest) = code[at + start.len()..].trim_start().strip_prefix("::") else { continue };
            if !standalone {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = rest.trim_start();
            let names = match rest.strip_prefix('{') {
                Some(group) => first_names(group),
                None => vec![first_name(rest)],
            };
            found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (line, start, name)));
        }
    }
    found
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each member of a `{…}` group, whose opening brace is already gone.
fn first_names(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut names = vec![first_name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_name(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, may)| *may)
}

/// Imports of `text`, a file of `room`, that the table does not allow. `own` tells the room's submodules.
fn offences(room: &str, text: &str, own: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let may = allowed(room).unwrap();
    imports(&code_only(text))
        .into_iter()
        .filter(|(_, start, name)| {
            let is_room = allowed(name).is_some();
            let is_own = name == room || (*start == "super" && own(name));
            is_room && !is_own && !may.contains(&name.as_str())
        })
        .map(|(line, _, name)| (line, name))
        .collect()
}

#[test]
fn every_room_is_in_the_table_and_every_entry_is_a_room() {
    let library = fs::read_to_string(root().join("src").join("lib.rs")).unwrap();
    let mut there: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut listed: Vec<&str> = ROOMS.iter().map(|(name, _)| *name).collect();
    there.sort_unstable();
    listed.sort_unstable();
    assert_eq!(there, listed, "src/lib.rs and the table name different rooms");
}

#[test]
fn every_file_imports_only_from_rooms_below_its_own() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (room, _) in ROOMS {
        let folder = root().join("src").join(room);
        let own = |name: &str| folder.join(name).is_dir() || folder.join(format!("{name}.rs")).is_file();
        for path in sources(&folder) {
            read += 1;
            for (line, name) in offences(room, &fs::read_to_string(&path).unwrap(), own) {
                wrong.push(format!("{}:{line}: {room} may not import {name}", path.display()));
            }
        }
    }
    assert!(read >= ROOMS.len(), "only {read} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_simulator_imports_nothing_of_ours_and_only_commands_and_tests_import_it() {
    let manifest = fs::read_to_string(root().join("sim").join("Cargo.toml")).unwrap();
    let names_us = |line: &&str| line.trim_start().starts_with("sf2kafka") && line.contains('=');
    assert_eq!(manifest.lines().find(names_us), None, "sim/Cargo.toml depends on us");
    for path in sources(&root().join("sim").join("src")) {
        let code = code_only(&fs::read_to_string(&path).unwrap());
        assert!(!code.contains("sf2kafka::"), "{} imports us", path.display());
    }
    let source = root().join("src");
    let commands = source.join("cli");
    // Files of tests alone: `tests.rs`, or what lies in a folder `tests`.
    let tests_alone = |path: &Path| {
        let inside = path.strip_prefix(&source).unwrap_or(path).with_extension("");
        inside.components().any(|part| part.as_os_str() == "tests")
    };
    let may = |path: &Path| path.starts_with(&commands) || tests_alone(path);
    for path in sources(&source).into_iter().filter(|path| !may(path)) {
        let code = code_only(&fs::read_to_string(&path).unwrap());
        assert!(!code.contains("simulator::"), "{} imports the simulator", path.display());
    }
}

#[test]
fn an_import_upwards_is_found_in_every_form() {
    let none = |_: &str| false;
    let text = "\
//! crate::cli is only spoken of here
use crate::error::Error;
use crate::{
    domain::Change,
    publish::{Publisher, topics},
};
fn f() { crate::pipeline::run(\"crate::cli\"); /* crate::cli */ }
const A: &str = r#\"crate::cli \"quoted\"\"#; use super::capture;
";
    let found = offences("schema", text, none);
    let expected = vec![(3, "publish".to_owned()), (7, "pipeline".to_owned()), (8, "capture".to_owned())];
    assert_eq!(found, expected);
}

#[test]
fn a_submodule_with_the_name_of_a_room_is_the_rooms_own() {
    let text = "use super::schema::Plan;\nuse crate::publish::schema::Plan;";
    assert_eq!(offences("publish", text, |name| name == "schema"), vec![]);
    assert_eq!(offences("publish", text, |_| false), vec![(1, "schema".to_owned())]);
}
