//! Settings of the tier that cannot be used are told, and no secret is.

use crate::child::run;
use crate::http::Http;
use crate::server::Site;
use crate::tier_server::{KEY, Manners, SECRET};
use crate::tier_site::{Bucket, LOG, command};

/// A broker that must not start. Returns what it says.
async fn refused(site: &Site) -> String {
    let data = site.data().to_str().unwrap().to_string();
    let none = ["--native", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let args = [&["serve", "--config", "CONFIG", "--data", &data][..], &none].concat();
    let finished = command(site, &args).await;
    assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
    assert!(!finished.err.contains(SECRET), "{}", finished.err);
    assert!(!finished.text().contains(SECRET), "{}", finished.text());
    finished.err
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_without_conditions_is_refused_unless_that_is_accepted() {
    let bucket = Bucket::start(Manners::Ignorant).await;
    let site = bucket.site();
    let said = refused(&site).await;
    let clear = said.contains("create conditionally") && said.contains("accept_single_writer");
    assert!(clear, "{said}");
    site.set(LOG, &bucket.settings("accept_single_writer = true"));
    let server = tokio::task::block_in_place(|| site.start());
    let status = server.client().await.tier().await.unwrap().unwrap();
    assert_eq!(status.state, "open", "{status:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_told() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    for (right, wrong) in [(SECRET, "another-secret"), (KEY, "AKIAANOTHER")] {
        let settings = bucket.settings("").replace(right, wrong);
        site.set(LOG, &settings);
        let said = refused(&site).await;
        assert!(said.contains("check the keys"), "{said}");
        assert!(!said.contains("another-secret"), "{said}");
        let looked = command(&site, &["tier", "verify", "--config", "CONFIG"]).await;
        assert_eq!(looked.code, Some(1), "{looked:?}");
        assert!(looked.err.contains("check the keys"), "{looked:?}");
    }
}

/// The server of this process makes a bucket of any name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_not_there_is_told() {
    let Some(bucket) = Bucket::of_moto().await else {
        eprintln!("SKIPPED: moto_server is not here, a missing bucket was not tried");
        return;
    };
    let site = bucket.site();
    let missing = bucket.settings("").replace("s3://bucket/", "s3://nowhere/");
    site.set(LOG, &missing);
    let said = refused(&site).await;
    assert!(said.contains("create the bucket first"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_door_tells_a_secret() {
    let bucket = Bucket::start(Manners::Honest).await;
    let site = bucket.site();
    let server = tokio::task::block_in_place(|| site.start());
    let http = Http(server.http());
    for path in ["/api/v1/tier", "/metrics"] {
        let page = http.get(path).await.expect(200);
        assert!(!page.text().contains(SECRET), "{}", page.text());
    }
    let url = server.url();
    for more in [&[][..], &["--json"]] {
        let args = [&["tier", "status", "--url", &url], more].concat();
        let said = command(&site, &args).await;
        assert!(!format!("{said:?}").contains(SECRET), "{said:?}");
    }
    server.stop();
}

/// Mistakes in the lines around a secret, which are quoted by what reads the file.
#[test]
fn no_mistake_in_the_settings_tells_a_secret() {
    let site = Site::new("", "");
    let config = site.file("flowstone.toml");
    let data = site.data().to_str().unwrap().to_string();
    let url = "url = 's3://bucket/a'\n";
    let given = |keys: &str| format!("[tier]\n{url}[tier.credentials.given]\n{keys}\n");
    let inline = |keys: &str| format!("[tier]\n{url}credentials = {keys}\n");
    for text in [
        given(&format!(
            "access_key_id = 'A'\nsecret_access_kee = '{SECRET}'"
        )),
        given(&format!(
            "access_key_id = 'A'\nsecret_access_key = '{SECRET}"
        )),
        given(&format!(
            "access_key_id = 5\nsecret_access_key = '{SECRET}'"
        )),
        given(&format!("secret_access_key = '{SECRET}'")),
        given(&format!(
            "access_key_id = 'A'\nsecret_access_key = ['{SECRET}']"
        )),
        inline(&format!("'{SECRET}'")),
        inline(&format!("{{ given = '{SECRET}' }}")),
        inline(&format!(
            "{{ gven = {{ access_key_id = 'A', secret_access_key = '{SECRET}' }} }}"
        )),
        inline(&format!(
            "{{ given = {{ access_key_id = 'A', secret_access_key = '{SECRET}' }}"
        )),
        inline(&format!(
            "{{ given = {{ access_key_id = 5, secret_access_key = '{SECRET}' }} }}"
        )),
        format!("[tier]\nurl = 's3://key:{SECRET}@bucket/a'\n"),
        format!("[tier]\n{url}endpoint = 'https://key:{SECRET}@host'\n"),
        format!(
            "tier = {{ url = 5, credentials = {{ given = {{ access_key_id = 'A', secret_access_key = '{SECRET}' }} }} }}\n"
        ),
    ] {
        std::fs::write(&config, &text).unwrap();
        let config = config.to_str().unwrap();
        for args in [
            &["serve", "--config", config, "--data", &data][..],
            &["tier", "verify", "--config", config],
        ] {
            let finished = run(args, b"");
            assert!(matches!(finished.code, Some(1 | 2)), "{text}: {finished:?}");
            assert!(!finished.err.is_empty(), "{text}: it says nothing");
            assert!(!finished.err.contains(SECRET), "{text}: {}", finished.err);
        }
    }
}
