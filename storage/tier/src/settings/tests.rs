//! Settings are read, defaulted and refused with the name of what is wrong.

use super::*;
use crate::credentials::{Keys, Secret};

#[test]
fn a_url_is_enough() {
    let settings: Settings = toml::from_str("url = 's3://bucket/a/b/'").unwrap();
    assert_eq!(
        settings,
        Settings {
            url: "s3://bucket/a/b/".into(),
            ..Settings::at("")
        }
    );
    settings.check().unwrap();
    let (bucket, prefix) = ("bucket".into(), "a/b".into());
    assert_eq!(
        settings.location().unwrap(),
        Location::S3 { bucket, prefix }
    );
    assert!(!settings.allow_http());
}

#[test]
fn keys_may_be_given_and_are_not_shown() {
    let text = "url = 's3://bucket'\nendpoint = 'http://127.0.0.1:9000'\n\
        [credentials.given]\naccess_key_id = 'id'\nsecret_access_key = 'geheim'";
    let settings: Settings = toml::from_str(text).unwrap();
    let keys = Keys {
        access_key_id: "id".into(),
        secret_access_key: Secret::new("geheim"),
        session_token: None,
    };
    assert_eq!(settings.credentials, Credentials::Given(keys));
    assert!(settings.allow_http());
    assert!(!format!("{settings:?}").contains("geheim"));
    let file: Settings =
        toml::from_str("url = 's3://bbb'\ncredentials = { file = { path = '/k' } }").unwrap();
    assert!(matches!(
        file.credentials,
        Credentials::File { profile: None, .. }
    ));
    let machine: Settings =
        toml::from_str("url = 's3://bbb'\ncredentials = 'instance_metadata'").unwrap();
    assert_eq!(machine.credentials, Credentials::InstanceMetadata);
    assert!(toml::from_str::<Settings>("url = 's3://bbb'\nbucket = 'x'").is_err());
}

#[test]
fn what_makes_no_sense_is_named() {
    let refuse = |change: fn(&mut Settings)| {
        let mut settings = Settings::at("s3://bucket/p");
        change(&mut settings);
        let error = settings.check().unwrap_err();
        assert!(matches!(error, TierError::Refused { .. }), "{error}");
        error.to_string()
    };
    assert!(refuse(|s| s.url = "ftp://x".into()).contains("ftp://x"));
    assert!(refuse(|s| s.url = "s3://k:geheim@x".into()).contains("(hidden)"));
    assert!(refuse(|s| s.url = "s3://bucket/../x".into()).contains("prefix"));
    assert!(refuse(|s| s.url = "file://relative".into()).contains("absolute"));
    assert!(refuse(|s| s.endpoint = Some("minio:9000".into())).contains("minio:9000"));
    assert!(!refuse(|s| s.endpoint = Some("http://a:geheim@h".into())).contains("geheim"));
    assert!(refuse(|s| s.part_bytes = 1).contains("`part_bytes` is 1"));
    assert!(refuse(|s| s.chunk_bytes = 1).contains("chunk_bytes"));
    assert!(refuse(|s| s.cache_bytes = 1 << 20).contains("`cache_bytes`"));
    assert!(refuse(|s| s.upload_concurrency = 0).contains("upload_concurrency"));
    assert!(refuse(|s| s.retry_for_ms = 400_000).contains("retry_for_ms"));
    assert!(refuse(|s| s.upload_bytes_per_s = Some(0)).contains("upload_bytes_per_s"));
}
