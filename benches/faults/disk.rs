//! Provides a small file system, so that a full disk is only the database's disk.
//!
//! It is ext4 in a file, mounted with a loop device, or a tmpfs where that cannot be done. Both need root.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SIZE_MB: u64 = 1200;

/// A mounted file system, which is unmounted when this is dropped.
pub struct Disk {
    pub folder: PathBuf,
    /// The type of the file system, for the record.
    pub form: &'static str,
}

impl Disk {
    /// Mounts a file system below `scratch`. `None` means that this machine cannot.
    pub fn mount(scratch: &Path) -> io::Result<Option<Self>> {
        let folder = scratch.join("disk");
        std::fs::create_dir(&folder)?;
        let image = scratch.join("disk.image");
        File::create(&image)?.set_len(SIZE_MB * 1024 * 1024)?;
        let (image, place) = (image.as_os_str(), folder.as_os_str());
        // No blocks are kept for root: the program under test may run as root, and its disk shall be full too.
        let made = runs(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image))
            && runs(Command::new("mount").args(["-o", "loop"]).arg(image).arg(place));
        if made {
            let form = "ext4 on a loop device";
            return Ok(Some(Self { folder, form }));
        }
        let size = format!("size={SIZE_MB}m");
        let mounted = runs(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                .arg(place),
        );
        let form = "tmpfs";
        Ok(mounted.then_some(Self { folder, form }))
    }

    /// Leaves no block free.
    pub fn fill(&self) -> io::Result<()> {
        // In ever smaller pieces: one that does not fit takes nothing.
        std::fs::create_dir_all(self.ballast())?;
        for piece in ["64M", "1M", "64K", "4K"] {
            for number in 0.. {
                let file = self.ballast().join(format!("{piece}-{number}"));
                if !runs(Command::new("fallocate").args(["-l", piece]).arg(&file)) {
                    let _ = std::fs::remove_file(&file);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives all space back that [`Disk::fill`] has taken.
    pub fn free(&self) -> io::Result<()> {
        std::fs::remove_dir_all(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that was killed may still hold a file for a moment.
        runs(Command::new("umount").arg("-l").arg(&self.folder));
    }
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
