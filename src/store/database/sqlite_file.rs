//! The SQLite file on disk: which file a URL names, the lock that keeps a second process out, and whether the file is still
//! there. Must not open it: connect does.

use std::fs::{self, DirBuilder, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::options::Hold;
use crate::error::{Error, Result};

const LOCK_POLL: Duration = Duration::from_millis(50);
/// For its owner alone, whatever the umask.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;
/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
/// File systems by their names in /proc, on which another machine sees neither SQLite's locks nor its shared memory.
const NETWORK_FILE_SYSTEMS: [&str; 8] = [
    "9p",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "nfs",
    "nfs4",
    "smb3",
];

/// A file that is open, and the lock on it.
pub(crate) struct SqliteFile {
    database: Named,
    /// `None` for a guest.
    lock: Option<(Named, File)>,
    /// What was found to be gone. Set once, by whoever looks first.
    lost: OnceLock<PathBuf>,
}

/// A file as it was when it was opened.
struct Named {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Named {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Whether the path leads to the same file still. If the file system does not tell, it does.
    fn is_there(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) == (self.device, self.inode),
            Err(err) => err.kind() != ErrorKind::NotFound,
        }
    }
}

impl SqliteFile {
    /// Takes the lock that `hold` asks for, and makes a file that is missing. A guest's file must be there.
    ///
    /// # Errors
    /// `Config` when another process holds the lock, the file cannot be made, or it has a second name.
    pub async fn hold(path: &Path, hold: Hold) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|found| found.nlink() > 1) {
            return Err(Error::config(format!(
                "the SQLite file {} has more than one name (a hard link): its log lies beside the name by which it is \
                 opened, so two names can spoil it. Remove the others",
                path.display()
            )));
        }
        let lock = match hold {
            Hold::Alone => Some(lock(path, Duration::ZERO).await?),
            Hold::AloneWithin(patience) => Some(lock(path, patience).await?),
            Hold::Beside => None,
        };
        if lock.is_some() {
            create_private(path)?;
        }
        let found = fs::metadata(path).map_err(|err| match err.kind() {
            ErrorKind::NotFound => Error::config(format!(
                "there is no database at {} (DATABASE_URL) yet: start `app serve`, or run `app migrate`, first",
                path.display()
            )),
            _ => Error::config(format!("cannot open the SQLite file {} (DATABASE_URL)", path.display())).because(err),
        })?;
        if hold == Hold::Alone {
            warn_of_network(path, found.dev());
        }
        Ok(Self {
            database: Named::new(path, &found),
            lock,
            lost: OnceLock::new(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.database.path
    }

    /// Whether a lock is held.
    pub fn is_held(&self) -> bool {
        self.lock.is_some()
    }

    /// Looks at nothing: fails once it is known that the file is gone.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub fn check_known(&self) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some(path) => Err(Error::unavailable(format!(
                "{} was removed or replaced while it was served: what is written would be lost",
                path.display()
            ))),
        }
    }

    /// Looks whether the database is still there.
    ///
    /// # Errors
    /// As [`SqliteFile::check_known`], which fails from then on.
    pub fn check_database(&self) -> Result<()> {
        self.look_at(&self.database)
    }

    /// Looks at the lock as well: without it another process may come.
    ///
    /// # Errors
    /// As [`SqliteFile::check_database`].
    pub fn check(&self) -> Result<()> {
        self.check_database()?;
        self.lock.as_ref().map_or(Ok(()), |(named, _)| self.look_at(named))
    }

    fn look_at(&self, file: &Named) -> Result<()> {
        if !file.is_there() {
            let _ = self.lost.set(file.path.clone());
        }
        self.check_known()
    }
}

/// The file of an SQLite URL as an absolute path, `None` for any other URL. Symbolic links are followed, as SQLite does: by
/// whatever name the file is opened, its lock, its key and its log lie beside the file itself.
pub fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = Path::new(path.strip_prefix("//").unwrap_or(path));
    // Fails where the present folder is gone, or the path is empty: then opening it will say so.
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Some(path)
}

/// An empty file is an empty database. Its owner alone may read it: payloads and own headers lie in it in clear.
fn create_private(path: &Path) -> Result<()> {
    let created = File::options().write(true).create_new(true).mode(PRIVATE).open(path);
    match created {
        Err(err) if err.kind() != ErrorKind::AlreadyExists => Err(Error::config(format!(
            "cannot create the SQLite file {} (DATABASE_URL)",
            path.display()
        ))
        .because(err)),
        _ => Ok(()),
    }
}

/// One process a file: two would each believe that the other's leases are a dead predecessor's. The lock is on a file of its
/// own, because closing any handle of the database itself drops the locks that SQLite has on it in this process. It is the
/// owner's alone, also where an earlier version made it: whoever may open it may hold the lock. So is each folder that is
/// missing: keys and backups are put there, too.
async fn lock(path: &Path, patience: Duration) -> Result<(Named, File)> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(folder)
            .map_err(|err| {
                Error::config(format!("cannot create the folder {} (DATABASE_URL)", folder.display())).because(err)
            })?;
    }
    let name = path.with_added_extension("lock");
    let cannot_lock =
        |err: io::Error| Error::config(format!("cannot lock {} (DATABASE_URL)", name.display())).because(err);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE)
        .open(&name)
        .map_err(cannot_lock)?;
    // Of a file that somebody else has made, who may be root, it stays as it is.
    let _ = file.set_permissions(Permissions::from_mode(PRIVATE));
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::config(format!(
                    "another process uses the SQLite file {}: stop it first, or use Postgres for more than one process",
                    path.display()
                )));
            }
            Err(TryLockError::Error(err)) => return Err(cannot_lock(err)),
        }
    }
    let metadata = file.metadata().map_err(cannot_lock)?;
    Ok((Named::new(&name, &metadata), file))
}

/// Only a warning: with one process on one machine it mostly works.
fn warn_of_network(path: &Path, device: u64) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(kind) = network_file_system(&mounts, device) {
        tracing::warn!(
            path = %path.display(),
            kind,
            "the SQLite file is on a network file system, where locks and shared memory are not safe: use a local disk, or Postgres"
        );
    }
}

/// The kind of file system that is mounted from `device`, if it is one of the network. `mounts` is Linux' mountinfo (proc(5)):
/// the third field is the device, the first after ` - ` the kind.
fn network_file_system(mounts: &str, device: u64) -> Option<&'static str> {
    // As the C library packs them into one number (gnu_dev_makedev).
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00);
    let number = format!("{major}:{minor}");
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&number))?;
    let kind = mount.split_once(" - ")?.1.split(' ').next()?;
    NETWORK_FILE_SYSTEMS.into_iter().find(|known| *known == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_file_system_is_known_by_the_device_of_the_file() {
        let mounts = "\
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
90 22 0:53 / /srv/my\\040data rw,nosuid shared:9 master:2 - nfs4 nas:/data rw,vers=4.2
91 22 0:300 /deep /home rw - fuse.sshfs user@host: rw
92 22 0:54 / /tmp rw - tmpfs tmpfs rw";
        let at = |major: u64, minor: u64| {
            let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
            network_file_system(mounts, device)
        };
        assert_eq!(at(0, 53), Some("nfs4"));
        assert_eq!(at(0, 300), Some("fuse.sshfs"));
        assert_eq!((at(254, 1), at(0, 54), at(0, 99)), (None, None, None));
    }
}
