//! What the process denies others: its memory holds tokens and secrets.
//!
//! Comes in: nothing. Goes out: a process that leaves no core dump and that no other process of the same user may read or
//! trace (Linux), as far as the system allows it. Never: an end of the program because a system does not.

/// To be called before any secret is read.
pub(super) fn apply() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // A system that refuses even this keeps what it had; nothing rests on it.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    #[test]
    fn no_core_is_left_and_nobody_may_look_in() {
        super::apply();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
