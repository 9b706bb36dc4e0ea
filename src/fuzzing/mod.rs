//! What must hold for bytes that others wrote, whatever they are: one function for each parser.
//!
//! Comes in: an input of the fuzzer, or of its corpus in `tests/fuzz/corpus/`. Goes out: nothing, or a panic that says what
//! does not hold. A parser may refuse; what it accepts must mean the same written again, in other pieces, or to another
//! reader (serde_json's tree, the Avro library). It is in no ordinary build: the fuzzer (`tests/fuzz`) and the replay below
//! are the only callers.

mod control;
mod describe;
mod events;
mod page;
mod samples;
mod written;

/// One parser with what must hold for it.
pub struct Target {
    /// The folder of its corpus.
    pub name: &'static str,
    pub check: fn(&[u8]),
}

pub static TARGETS: [Target; 9] = [
    Target { name: "bulk-page", check: page::bulk },
    Target { name: "query-page", check: page::query },
    Target { name: "refusal", check: page::refusal },
    Target { name: "describe", check: describe::looks },
    Target { name: "event", check: events::event },
    Target { name: "event-schema", check: events::schema },
    Target { name: "platform-event", check: events::platform },
    Target { name: "bitmap", check: events::bitmap },
    Target { name: "control", check: control::record },
];

/// Two parts of an input, at the first such byte. Texts do not hold a zero byte.
fn two_parts(input: &[u8], between: u8) -> (&[u8], &[u8]) {
    match memchr::memchr(between, input) {
        Some(at) => (input.get(..at).unwrap_or_default(), input.get(at + 1..).unwrap_or_default()),
        None => (input, &[]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn corpus() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
    }

    #[test]
    fn every_input_of_the_fuzzers_corpus_holds() {
        for target in &TARGETS {
            let mut count = 0;
            for entry in std::fs::read_dir(corpus().join(target.name)).unwrap() {
                let path = entry.unwrap().path();
                let input = std::fs::read(&path).unwrap();
                let check = std::panic::catch_unwind(|| (target.check)(&input));
                assert!(check.is_ok(), "{} does not hold", path.display());
                count += 1;
            }
            assert!(count > 0, "{} has no corpus", target.name);
        }
    }

    #[test]
    fn every_corpus_belongs_to_a_target() {
        let folders = std::fs::read_dir(corpus()).unwrap();
        let folders: BTreeSet<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(folders, targets);
    }
}
