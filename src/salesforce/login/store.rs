//! Where a login is kept: one file, for this user's eyes only.
//!
//! Comes in: a path. Goes out: what is kept there. A write is whole and durable when it returns: a new file, its bytes
//! synced, put in place of the old one, the folder synced. Who exchanges a refresh token holds the lock from before
//! the reading until after the writing, across processes. Never: a file that others can read, a token in a message.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::error::Kind;

use super::super::fault::{Cure, Fault};

/// A login of another process that hangs ends within a minute.
const LOCK_PATIENCE: Duration = Duration::from_secs(90);
const FORMAT: u32 = 1;

#[derive(Clone)]
pub(super) struct Kept {
    /// The app that the tokens belong to.
    pub client_id: String,
    pub refresh_token: Secret,
    /// Fingerprint of the refresh token that the configuration began with.
    pub seed: Option<String>,
    /// Whether a refresh ever gave another refresh token.
    pub rotates: bool,
    pub access: Option<Access>,
    /// A refresh that was begun and whose answer is not here.
    pub asked: Option<Asked>,
}

#[derive(Clone)]
pub(super) struct Access {
    pub token: Secret,
    pub origin: String,
    pub org_id: String,
    pub user_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Fingerprint of the refresh token that was sent.
    pub with: String,
    /// When, by our clock: for people.
    pub at: String,
}

/// The file's contents. No `Debug`: it holds tokens as they are.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    client_id: String,
    refresh_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(default)]
    rotates: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<WrittenAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
    written_at: String,
}

#[derive(Serialize, Deserialize)]
struct WrittenAccess {
    token: String,
    instance_url: String,
    organization_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

impl Kept {
    /// Whether it holds the same tokens; marks come and go.
    pub fn is_login_of(&self, other: &Self) -> bool {
        let session = |kept: &Self| kept.access.as_ref().map(|access| access.token.clone());
        self.client_id == other.client_id
            && self.refresh_token == other.refresh_token
            && session(self) == session(other)
    }

    /// An error: what is wrong with them. Nothing of the contents.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        // The library's words could hold a part of the text.
        let written: Written = serde_json::from_slice(bytes).map_err(|_| "does not read")?;
        if written.format != FORMAT {
            return Err("is of another version of the program");
        }
        Ok(Self {
            client_id: written.client_id,
            refresh_token: Secret::new(written.refresh_token),
            seed: written.seed,
            rotates: written.rotates,
            access: written.access.map(|access| Access {
                token: Secret::new(access.token),
                origin: access.instance_url,
                org_id: access.organization_id,
                user_id: access.user_id,
            }),
            asked: written.asked,
        })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            format: FORMAT,
            client_id: self.client_id.clone(),
            refresh_token: self.refresh_token.expose().to_owned(),
            seed: self.seed.clone(),
            rotates: self.rotates,
            access: self.access.as_ref().map(|access| WrittenAccess {
                token: access.token.expose().to_owned(),
                instance_url: access.origin.clone(),
                organization_id: access.org_id.clone(),
                user_id: access.user_id.clone(),
            }),
            asked: self.asked.clone(),
            written_at: now(),
        };
        serde_json::to_vec_pretty(&written).expect("texts and flags always serialize")
    }
}

/// For `crate::fuzzing`: contents read, written and read again; none if they do not read. Whether both are one login.
#[cfg(any(test, feature = "fuzzing"))]
pub fn kept_again(bytes: &[u8]) -> Option<bool> {
    let kept = Kept::from_bytes(bytes).ok()?;
    let again = Kept::from_bytes(&kept.to_bytes()).ok()?;
    Some(again.is_login_of(&kept) && again.asked == kept.asked && again.rotates == kept.rotates)
}

/// Held while a token is exchanged; opens with the value, and with the process.
pub(super) struct FileLock {
    _file: File,
}

pub(super) struct FileStore {
    path: PathBuf,
}

/// What tells a token again without being one.
pub(super) fn fingerprint(token: &Secret) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.expose().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FileStore {
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// None if nobody has logged in yet.
    pub fn read(&self) -> Result<Option<Kept>, Fault> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("cannot be read", &error)),
        };
        let mode = file.metadata().map_err(|error| self.failed("cannot be read", &error))?.mode();
        if mode & 0o077 != 0 {
            let message = format!(
                "token store {} can be read by other users (mode {:03o})",
                self.path.display(),
                mode & 0o777
            );
            return Err(Fault::new(Kind::TokenStoreFailed, Cure::None, message)
                .hint("take their rights away with `chmod 600 FILE`; if others may have read it, log in again: `sf2kafka login -c FILE`"));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| self.failed("cannot be read", &error))?;
        Kept::from_bytes(text.as_bytes()).map(Some).map_err(|why| self.unreadable(why))
    }

    /// Waits for other processes and other renewals of this one. Blocks: not for async code.
    pub fn lock(&self) -> Result<FileLock, Fault> {
        self.lock_within(LOCK_PATIENCE)
    }

    fn lock_within(&self, patience: Duration) -> Result<FileLock, Fault> {
        let path = self.beside("lock");
        let failed = |error: &std::io::Error| self.failed("cannot be locked", error);
        self.make_folder()?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&error))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FileLock { _file: file }),
                Err(std::fs::TryLockError::Error(error)) => return Err(failed(&error)),
                Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                    let message = format!("another process holds {}", path.display());
                    return Err(Fault::new(Kind::TokenStoreFailed, Cure::Again, message)
                        .hint("look for a process of this pipeline that hangs, and end it"));
                }
                Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Durable when it returns; after an error the old contents are still there.
    pub fn write(&self, _lock: &FileLock, kept: &Kept) -> Result<(), Fault> {
        let failed = |error: &std::io::Error| self.failed("cannot be written", error);
        let bytes = kept.to_bytes();
        self.make_folder()?;
        let new = self.beside("new");
        // Left behind by a process that died while writing.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
        let replace = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            File::open(self.folder())?.sync_all()
        };
        replace().map_err(|error| failed(&error))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }

    fn make_folder(&self) -> Result<(), Fault> {
        let folder = self.folder();
        if folder.is_dir() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| self.failed("has no folder", &error))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Fault {
        let message = format!("token store {} {what}: {error}", self.path.display());
        let lasting = matches!(
            error.kind(),
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
        );
        Fault::new(Kind::TokenStoreFailed, if lasting { Cure::None } else { Cure::Again }, message)
    }

    fn unreadable(&self, why: &str) -> Fault {
        let message = format!("token store {} {why}", self.path.display());
        Fault::new(Kind::TokenStoreFailed, Cure::None, message)
            .hint("check that `salesforce.token_store` names the right file; else log in again: `sf2kafka login -c FILE`")
    }
}

pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of its own that goes with the value.
    pub struct Folder(pub PathBuf);

    impl Folder {
        pub fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("sf2kafka-store-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub fn kept(token: &str) -> Kept {
        Kept {
            client_id: "3MVG9".to_owned(),
            refresh_token: Secret::new(token),
            seed: None,
            rotates: true,
            access: Some(Access {
                token: Secret::new("T1"),
                origin: "https://acme.my.salesforce.com".to_owned(),
                org_id: "00D5g00000AbCdEEAV".to_owned(),
                user_id: None,
            }),
            asked: None,
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_read_again_by_this_user_alone() {
        let folder = Folder::new();
        let store = FileStore::at(&folder.0.join("config/sf2kafka/crm.json"));
        assert!(store.read().unwrap().is_none());
        let lock = store.lock().unwrap();
        let mut wanted = kept("5Aep861");
        wanted.asked = Some(Asked { with: fingerprint(&wanted.refresh_token), at: now() });
        // A leftover of a process that died, readable by all.
        std::fs::write(store.beside("new"), "half").unwrap();
        store.write(&lock, &wanted).unwrap();
        let read = store.read().unwrap().unwrap();
        assert_eq!(read.refresh_token.expose(), "5Aep861");
        assert_eq!(read.asked, wanted.asked);
        assert_eq!(read.access.unwrap().token.expose(), "T1");
        assert_eq!((mode(store.path()), mode(store.folder())), (0o600, 0o700));
        assert_eq!(mode(&store.beside("lock")), 0o600);
    }

    #[test]
    fn a_store_that_others_can_read_is_refused() {
        let folder = Folder::new();
        let store = FileStore::at(&folder.0.join("crm.json"));
        store.write(&store.lock().unwrap(), &kept("5Aep861")).unwrap();
        std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let fault = store.read().map(drop).unwrap_err();
        assert_eq!((fault.kind, fault.cure), (Kind::TokenStoreFailed, Cure::None));
        assert!(fault.message.ends_with("can be read by other users (mode 640)"), "{}", fault.message);
        assert!(fault.advice().contains("chmod 600"));
    }

    #[test]
    fn a_store_that_does_not_read_says_so_without_its_contents() {
        let folder = Folder::new();
        let store = FileStore::at(&folder.0.join("crm.json"));
        for text in [
            "",
            "{\"refresh_token\": \"5Aep861\"",
            "{\"format\": 2, \"client_id\": \"x\", \"refresh_token\": \"5Aep861\", \"written_at\": \"\"}",
        ] {
            std::fs::write(store.path(), text).unwrap();
            std::fs::set_permissions(store.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
            let fault = store.read().map(drop).unwrap_err();
            assert_eq!((fault.kind, fault.cure), (Kind::TokenStoreFailed, Cure::None), "{text}");
            assert!(!fault.message.contains("5Aep"), "{}", fault.message);
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_login() {
        let folder = Folder::new();
        let store = FileStore::at(&folder.0.join("crm.json"));
        let lock = store.lock().unwrap();
        store.write(&lock, &kept("old")).unwrap();
        // Nothing can be created under this name.
        std::fs::create_dir(store.beside("new")).unwrap();
        let fault = store.write(&lock, &kept("new")).unwrap_err();
        assert_eq!(fault.kind, Kind::TokenStoreFailed);
        assert_eq!(store.read().unwrap().unwrap().refresh_token.expose(), "old");
    }

    #[test]
    fn one_lock_at_a_time_and_it_opens_with_its_holder() {
        let folder = Folder::new();
        let store = FileStore::at(&folder.0.join("crm.json"));
        let held = store.lock().unwrap();
        let fault = store.lock_within(Duration::from_millis(60)).map(drop).unwrap_err();
        assert_eq!((fault.kind, fault.cure), (Kind::TokenStoreFailed, Cure::Again));
        drop(held);
        store.lock_within(Duration::from_secs(60)).unwrap();
    }
}
