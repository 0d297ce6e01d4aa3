//! Looks after the SQLite file on disk: finds the file that a URL names, takes the lock that keeps a second process
//! out, and checks that the file is still there. Must not open the database: sqlite.rs does.

use std::fs::{self, DirBuilder, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::options::Hold;
use crate::error::{Error, Result};

/// The pause between two tries for the lock.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// The permissions of files: for their owner alone, whatever the umask is.
const PRIVATE: u32 = 0o600;
/// The permissions of folders.
const PRIVATE_FOLDER: u32 = 0o700;
/// How many symbolic links are followed: as many as Linux follows.
const MOST_LINKS: usize = 40;
/// Network file systems, by their names in /proc. Other machines see neither SQLite's locks nor its shared memory
/// there.
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

/// The file of an open database, and the lock on it.
pub(crate) struct SqliteFile {
    database: Named,
    /// The lock file, which is locked as long as it is open. `None` for a guest.
    lock: Option<(Named, File)>,
    /// The file that was found to be gone, the database or the lock. Any task sets it, once: it stays gone.
    lost: OnceLock<PathBuf>,
}

/// A path, and the file that it led to when it was opened.
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

    /// Returns whether the path still leads to the same file. If the file system gives an error other than that there
    /// is no such file, assumes that it does.
    fn is_there(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) == (self.device, self.inode),
            Err(err) => err.kind() != ErrorKind::NotFound,
        }
    }
}

impl SqliteFile {
    /// Takes the lock as `hold` says, and creates the file if it is missing. A guest takes no lock, and its file must
    /// exist.
    ///
    /// # Errors
    /// `Config` if another process holds the lock, if the file is missing or cannot be created, or if it has a second
    /// name.
    pub async fn hold(path: &Path, hold: Hold) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|found| found.nlink() > 1) {
            return Err(Error::config(format!(
                "the SQLite file {} has more than one name (a hard link): SQLite keeps its log beside the name by which \
                 the file is opened, so two names can damage the database. Remove the other names",
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

    /// Returns whether this process holds the lock.
    pub fn is_held(&self) -> bool {
        self.lock.is_some()
    }

    /// Fails if an earlier check found that a file is gone. Costs nothing, because it does not look at the disk.
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

    /// Checks that the database's path still leads to the file that was opened. Remembers if it does not.
    ///
    /// # Errors
    /// `Unavailable` if this check or an earlier one has found a file removed or replaced.
    pub fn check_database(&self) -> Result<()> {
        self.look_at(&self.database)
    }

    /// Checks the lock file too: if it is gone, another process can lock a new one.
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

/// Returns the absolute path of the file that an SQLite URL names, or `None` for any other URL. Follows symbolic links,
/// as SQLite does: by whatever name the file is opened, its lock, its key and its log then lie beside the file itself.
pub fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = Path::new(path.strip_prefix("//").unwrap_or(path));
    // Fails if the current directory is gone or the path is empty; opening the file then gives an error that says so.
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Some(path)
}

/// Creates the file if it is missing; an empty file is an empty database. Only its owner may read it, because payloads
/// are stored in clear.
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

/// Takes the lock of the database at `path`, and waits up to `patience` for it. Only one process may serve a file: of
/// two, each would take the other's leases for those of a dead predecessor.
///
/// The lock is on a file of its own, because closing any handle on the database itself drops the locks that SQLite has
/// on it in this process. Only the owner may open the lock file, even if an earlier version created it with other
/// permissions: every program that can open it can hold the lock. Missing folders are created for the owner alone too,
/// because keys and backups are put there.
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
    // This fails if the file belongs to another user, such as root; then its permissions stay as they are.
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

/// Warns if the file is on a network file system. This is no error, because with one process on one machine it mostly
/// works.
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

/// Returns the kind of the file system on `device` if it is a network file system, else `None`. `mounts` is the text of
/// Linux' mountinfo (proc(5)): the third field is the device, and the first one after ` - ` is the kind.
fn network_file_system(mounts: &str, device: u64) -> Option<&'static str> {
    // The C library packs both numbers into one (gnu_dev_makedev).
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
