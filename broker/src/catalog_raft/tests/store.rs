//! openraft's own tests of a store.

use super::*;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Fresh;

impl StoreBuilder<Types, log::Log, Machine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, log::Log, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.redb");
        make(&path, &[]).unwrap();
        let file = CatalogFile::open(&path, reserve(dir.path()), Role::Joiner(0)).unwrap();
        let file = Arc::new(file);
        let machine = Machine::load(file.clone(), Arc::new(Shown::new(1))).unwrap();
        Ok((dir, log::Log(file), machine))
    }
}

#[test]
fn the_suite_of_openraft_passes() {
    Suite::test_all(Fresh).unwrap();
}
