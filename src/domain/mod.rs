//! Plain values that all rooms share; no I/O and no clock in here.
//!
//! [`description`]: what an object is. [`rows`]: what was read of it. [`change`] and [`batch`]: what is to be
//! published. [`position`] and [`ledger`]: what a restart goes on from. [`stamp`], [`sequence`]: time and order.

pub mod batch;
pub mod blobs;
pub mod canonical;
pub mod cell;
pub mod change;
pub mod compound;
pub mod content;
pub mod decimal;
pub mod description;
pub mod field_set;
pub mod name;
pub mod notice;
pub mod pinned;
pub mod platform_event;
pub mod position;
pub mod reload;
pub mod replay_id;
pub mod rows;
pub mod sequence;
pub mod stamp;

pub use batch::{Batch, ControlRecord, Only};
pub use blobs::Blobs;
pub use change::{Change, Detail, Operation, Source};
pub use compound::{Compound, CompoundShape};
pub use decimal::Decimal;
pub use description::{CursorField, Field, FieldKind, ObjectDescription};
pub use field_set::FieldSet;
pub use notice::{Notice, NoticeKind};
pub use pinned::{Described, PinnedDescription};
pub use platform_event::{EventBatch, PlatformEvent};
pub use position::{Capture, LoadPosition, Position, State};
pub use reload::{Leaving, Need, Reload, ReloadReason};
pub use replay_id::ReplayId;
pub use rows::{Row, RowLayout, Rows};
pub use sequence::ChangeSequence;
pub use stamp::Stamp;
