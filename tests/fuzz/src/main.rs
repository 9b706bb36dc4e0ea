//! libFuzzer's side of `sf2kafka::fuzzing`: one input after another into the target that was chosen.
//!
//! Comes in: inputs from libFuzzer, the target's name from `SF2KAFKA_FUZZ`. Goes out: libFuzzer's own report. Beside what the
//! target demands, an input must not take memory out of proportion. `cargo xtask fuzz` builds and runs it; nothing else does.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;
use sf2kafka::fuzzing::{TARGETS, Target};

/// What a parser and its checks may hold at once: a base, and so much for each byte of the input.
const BASE: usize = 16 << 20;
const FOR_EACH_BYTE: usize = 4 << 10;

/// The system's allocator, counting what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn held(more: usize) {
    let now = HELD.fetch_add(more, Ordering::Relaxed) + more;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        held(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("SF2KAFKA_FUZZ").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        let target = target.expect("SF2KAFKA_FUZZ names a target: run `cargo xtask fuzz TARGET`");
        // What is made once, at the first input, is not that input's.
        (target.check)(b"");
        target
    })
}

fuzz_target!(|input: &[u8]| {
    let target = target();
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    (target.check)(input);
    let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let allowed = BASE + FOR_EACH_BYTE * input.len();
    assert!(taken <= allowed, "{taken} bytes of memory for an input of {}", input.len());
});
