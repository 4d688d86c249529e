//! What a process that ended left half written in a directory that stands for a bucket.

use crate::error::TierError;
use crate::manifest::TierEpoch;
use crate::names::Names;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use std::fs;
use std::path::{Path, PathBuf};

/// What follows the name of an object while it is being written, with a number behind it.
const MARK: char = '#';

/// Finds the files of segments that owners which have ended did not finish, and removes them unless it is
/// only to tell. Blocks.
///
/// # Errors
/// [`TierError::Io`].
pub(crate) fn remove_staged(
    directory: &LocalFileSystem,
    names: &Names,
    has_ended: impl Fn(TierEpoch) -> bool,
    dry_run: bool,
) -> Result<u64, TierError> {
    let root = names.partitions();
    let Ok(dir) = directory.path_to_filesystem(&root) else {
        return Ok(0);
    };
    let mut count = 0;
    for partition in files_of(&dir)? {
        for file in files_of(&partition)? {
            if !staged(&root, names, &file).is_some_and(&has_ended) {
                continue;
            }
            count += 1;
            if !dry_run {
                fs::remove_file(&file).map_err(TierError::io("remove", &file))?;
            }
        }
    }
    Ok(count)
}

/// The epoch of a segment that is only half written.
fn staged(root: &ObjectPath, names: &Names, file: &Path) -> Option<TierEpoch> {
    let text = |p: Option<&std::ffi::OsStr>| p.and_then(|n| n.to_str()).map(str::to_string);
    let partition = text(file.parent().and_then(Path::file_name));
    let (partition, name) = (partition?, text(file.file_name())?);
    let (name, _) = name.split_once(MARK)?;
    let object = ObjectPath::from(format!("{root}/{partition}/{name}"));
    names.parse_segment(&object).map(|(_, id)| id.epoch)
}

/// What is in a directory; nothing, where it is none.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>, TierError> {
    let io = |e| TierError::io("list", dir)(e);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(e) => return Err(io(e)),
    };
    entries.map(|e| e.map(|e| e.path()).map_err(io)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_what_earlier_owners_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, names) = (
            LocalFileSystem::new_with_prefix(dir.path()).unwrap(),
            Names::new(""),
        );
        let partition = dir.path().join("v1/partitions/0000001024");
        assert_eq!(
            remove_staged(&store, &names, |e| e < TierEpoch(2), false).unwrap(),
            0
        );
        fs::create_dir_all(&partition).unwrap();
        let segment = |epoch: u32| format!("00000000000000000007-0000000000-{epoch:010}.seg");
        let whole = segment(1);
        let [mine, old] = [2, 1].map(|e| format!("{}#1", segment(e)));
        let other = "notes#1".to_string();
        for name in [&whole, &mine, &old, &other] {
            fs::write(partition.join(name), b"x").unwrap();
        }
        let left = || {
            let all = fs::read_dir(&partition).unwrap();
            all.map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(
            remove_staged(&store, &names, |e| e < TierEpoch(2), true).unwrap(),
            1
        );
        assert_eq!(left().len(), 4);
        assert_eq!(
            remove_staged(&store, &names, |e| e < TierEpoch(2), false).unwrap(),
            1
        );
        assert_eq!(left(), BTreeSet::from([whole, mine, other]));
    }
}
