//! A folder that is its user's alone, for secrets that programs of one user on one machine share.
//!
//! On Unix every step goes through the open folder, so that nobody can put another one in its place
//! between the check and the use.

use std::io::{self, Read as _, Write as _};

pub(crate) use system::PrivateFolder;

use super::random;

/// Longest secret that is read, in bytes: more than fits a handshake.
const LONGEST: u64 = 16 * 1024;

impl PrivateFolder {
    /// What the file `name` holds; refused when it is not this user's alone.
    pub(crate) fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        self.file(name)?.take(LONGEST).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Makes `name` a new file with `text`, in one step: who reads meanwhile gets the whole of what
    /// was there before or the whole of this.
    pub(crate) fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let new = format!(".{name}.{}", random::hex::<8>()?);
        let made = self
            .new_file(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| self.rename(&new, name));
        if made.is_err() {
            let _ = self.remove(&new);
        }
        made
    }
}

/// `seqlink` in the user's `XDG_RUNTIME_DIR`; where there is none, or it is not the user's own,
/// `seqlink-UID` in the folder for temporary files.
#[cfg(unix)]
mod system {
    use std::fs::{File, metadata};
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    use rustix::fs::{
        AtFlags, FileType, Mode, OFlags, fstat, mkdir, open, openat, renameat, unlinkat,
    };
    use rustix::io::Errno;

    #[derive(Debug)]
    pub(crate) struct PrivateFolder(OwnedFd);

    impl PrivateFolder {
        /// Where it is, whether there is one or not.
        pub(crate) fn path() -> io::Result<PathBuf> {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            Ok(match runtime.filter(|folder| is_own(folder)) {
                Some(folder) => folder.join("seqlink"),
                None => std::env::temp_dir().join(format!("seqlink-{}", user())),
            })
        }

        /// Makes the one at `path`, unless it is there already.
        pub(crate) fn make(path: &Path) -> io::Result<Self> {
            match mkdir(path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => Self::open(path),
                Err(error) => Err(error.into()),
            }
        }

        /// Opens the one at `path`, and refuses one that is a symbolic link, another user's, or
        /// open to others.
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = open(path, flags, Mode::empty())?;
            check(&folder, FileType::Directory)?;
            Ok(Self(folder))
        }

        /// Waits until no other program has locked it; locked until this is dropped.
        #[cfg(feature = "tls")]
        pub(crate) fn lock(&self) -> io::Result<()> {
            use rustix::fs::{FlockOperation, flock};
            match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {
                    tracing::info!(
                        "waiting for another program of this user's, which is in its folder"
                    );
                    Ok(flock(&self.0, FlockOperation::LockExclusive)?)
                }
                done => Ok(done?),
            }
        }

        /// The file `name`, to be read; refused as [`open`](Self::open) refuses folders.
        pub(super) fn file(&self, name: &str) -> io::Result<File> {
            // A pipe without a writer must not hold up who opens it.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(&self.0, name, flags, Mode::empty())?;
            check(&file, FileType::RegularFile)?;
            Ok(file.into())
        }

        /// A file where there was none, not even a symbolic link, to be written.
        pub(super) fn new_file(&self, name: &str) -> io::Result<File> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
        }

        /// Whatever `to` was, a symbolic link too, is gone then.
        pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(renameat(&self.0, from, &self.0, to)?)
        }

        pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
            Ok(unlinkat(&self.0, name, AtFlags::empty())?)
        }
    }

    fn user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// Whether nobody but this user can make anything in `folder`.
    fn is_own(folder: &Path) -> bool {
        let own = |found: std::fs::Metadata| {
            found.is_dir() && found.uid() == user() && found.mode() & 0o022 == 0
        };
        folder.is_absolute() && metadata(folder).is_ok_and(own)
    }

    fn check(file: impl AsFd, kind: FileType) -> io::Result<()> {
        let found = fstat(file)?;
        let others = Mode::from_raw_mode(found.st_mode).intersects(Mode::RWXG | Mode::RWXO);
        let why = if FileType::from_raw_mode(found.st_mode) != kind {
            "it is of another kind"
        } else if found.st_uid != user() {
            "it belongs to another user"
        } else if others {
            "its mode lets other users in"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}

/// `seqlink` in `LOCALAPPDATA`, which Windows keeps for its user.
#[cfg(not(unix))]
mod system {
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub(crate) struct PrivateFolder(PathBuf);

    impl PrivateFolder {
        pub(crate) fn path() -> io::Result<PathBuf> {
            let data = std::env::var_os("LOCALAPPDATA").map(PathBuf::from);
            let data = data.filter(|folder| folder.is_absolute());
            let data = data.ok_or_else(|| io::Error::other("LOCALAPPDATA names no folder"))?;
            Ok(data.join("seqlink"))
        }

        pub(crate) fn make(path: &Path) -> io::Result<Self> {
            fs::create_dir_all(path)?;
            Self::open(path)
        }

        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(path.to_owned()))
        }

        #[cfg(feature = "tls")]
        pub(crate) fn lock(&self) -> io::Result<()> {
            Ok(())
        }

        pub(super) fn file(&self, name: &str) -> io::Result<File> {
            File::open(self.0.join(name))
        }

        pub(super) fn new_file(&self, name: &str) -> io::Result<File> {
            File::create_new(self.0.join(name))
        }

        pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }
    }
}
