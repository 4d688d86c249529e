//! What is written is read again, by its owner only, and never half of it.

use super::*;
use crate::identity::{Authority, ClusterId, Term};

fn credentials() -> Credentials {
    let authority = Authority::found(ClusterId([1; 16]), Term::of_authority(1000)).unwrap();
    let key = NodeKey::generate().unwrap();
    let node = NodeId(7);
    let cluster = authority.cluster();
    let issued = authority.issue(node, &key.public(), Term::of_node(1000));
    let next = authority.successor(Term::of_authority(1000)).unwrap();
    Credentials {
        name: NodeName { node, cluster },
        key,
        issued: issued.unwrap(),
        trust: Trust::only(authority.trusted()).and(next.trusted()),
    }
}

#[test]
fn credentials_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CREDENTIALS);
    let mine = credentials();
    write_credentials(&path, &mine).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = read_credentials(&path).unwrap();
    assert_eq!((read.name, &read.issued), (mine.name, &mine.issued));
    assert_eq!(read.trust, mine.trust);
    assert_eq!(read.key.public(), mine.key.public());
    // What a crash has left behind is in nobody's way.
    fs::write(path.with_extension("unfinished"), "x").unwrap();
    write_credentials(&path, &credentials()).unwrap();
    assert!(!path.with_extension("unfinished").exists());
}

#[test]
fn a_file_that_others_may_read_is_refused_and_a_broken_one_is_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CREDENTIALS);
    write_credentials(&path, &credentials()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = read_credentials(&path).unwrap_err().to_string();
    assert!(
        error.contains("mode 640") && error.contains("chmod 600"),
        "{error}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("key = \"", "key = \"!")).unwrap();
    let error = read_credentials(&path).unwrap_err().to_string();
    assert!(error.contains("restore it") && error.len() < 300, "{error}");
    let missing = read_credentials(&dir.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("cannot read"), "{missing}");
}
