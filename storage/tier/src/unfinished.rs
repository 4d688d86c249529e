//! Uploads in parts that were never finished: found by S3's ListMultipartUploads, and aborted.
//!
//! The object store has no word for the list, so the request is made and signed here.

use crate::counters::{self, Counters};
use crate::error::TierError;
use crate::manifest::TierEpoch;
use crate::objects::told;
use crate::staged::remove_staged;
use crate::tier::Tier;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::Signer;
use std::sync::Arc;
use std::time::Duration;

/// An answer names at most a thousand uploads.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Answers that are asked for before it is left to the next time.
const PAGES_MAX: usize = 100;

/// A bucket, as far as its unfinished uploads go.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) store: Arc<AmazonS3>,
    pub(crate) client: HttpClient,
    pub(crate) region: String,
}

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Begun {
    key: String,
    id: String,
}

/// An answer to the request for a list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    uploads: Vec<Begun>,
    /// Behind which key and upload the next one begins, if there is one.
    next: Option<(String, String)>,
}

impl Tier {
    /// Aborts what owners that hold nothing any more began to upload in parts and did not finish, and says
    /// how many that were; `dry_run` only tells. Where one of these owners still runs its upload fails, and
    /// so would its manifest. `None` for a server that does not list them.
    ///
    /// # Errors
    /// [`TierError::Unavailable`], [`TierError::Refused`], [`TierError::Io`].
    pub async fn abort_unfinished(&self, dry_run: bool) -> Result<Option<u64>, TierError> {
        let Some((number, owner)) = self.owner().await? else {
            return Ok(Some(0));
        };
        let has_ended = move |epoch| owner.has_ended(number, epoch);
        let Some(unfinished) = self.unfinished() else {
            return self.remove_staged(has_ended, dry_run).await.map(Some);
        };
        let dir = self.names().partitions();
        let (mut after, mut count) = (None, 0);
        for _ in 0..PAGES_MAX {
            let Some(page) = unfinished.list(&dir, after, self.counters()).await? else {
                return Ok(None);
            };
            for upload in page.uploads {
                let path = Path::from(upload.key);
                let segment = self.names().parse_segment(&path);
                if segment.is_none_or(|(_, id)| !has_ended(id.epoch)) {
                    continue;
                }
                count += 1;
                if !dry_run {
                    unfinished.abort(&path, upload.id).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Some(count))
    }

    /// A directory has files instead.
    async fn remove_staged(
        &self,
        has_ended: impl Fn(TierEpoch) -> bool + Send + 'static,
        dry_run: bool,
    ) -> Result<u64, TierError> {
        let Some(directory) = self.objects().directory().cloned() else {
            return Ok(0);
        };
        let names = self.names().clone();
        let removing = tokio::task::spawn_blocking(move || {
            remove_staged(&directory, &names, has_ended, dry_run)
        });
        let lost = |e| TierError::unavailable(format!("remove what was half written: {e}"));
        removing.await.map_err(lost)?
    }
}

impl Unfinished {
    /// A part of the list; `None` where the server knows no such list.
    async fn list(
        &self,
        dir: &Path,
        after: Option<(String, String)>,
        counters: &Counters,
    ) -> Result<Option<Page>, TierError> {
        counters::add(&counters.list_requests, 1);
        let failed = |e: object_store::Error| told("list the unfinished uploads below", dir, &e);
        let what = |e: &dyn std::fmt::Display| {
            TierError::unavailable(format!("list the unfinished uploads below '{dir}': {e}"))
        };
        let mut query = format!("prefix={}&uploads=", escaped(dir.as_ref()));
        if let Some((key, id)) = after {
            // In the order of their names, as they are signed.
            query = format!(
                "key-marker={}&{query}&upload-id-marker={}",
                escaped(&key),
                escaped(&id)
            );
        }
        let url = format!("{}?{query}", self.bucket_url().await.map_err(failed)?);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().map_err(|e| what(&e))?;
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", &self.region).authorize(&mut request, None);
        let response = self.client.execute(request).await;
        let response = response.map_err(|e| what(&e))?;
        let status = response.status();
        // Method not allowed, not implemented: servers differ in how they say it.
        if matches!(status.as_u16(), 400 | 404 | 405 | 501) {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(what(&format!("the answer is {status}")));
        }
        let (mut body, mut pieces) = (Vec::new(), response.into_body().bytes_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| what(&e))?;
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(what(&"the answer has no end"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Some(parse(&String::from_utf8_lossy(&body))))
    }

    /// Where the bucket is: the store says it of an object only.
    async fn bucket_url(&self) -> object_store::Result<String> {
        let get = HttpRequest::new(HttpRequestBody::empty()).method().clone();
        let object = Path::from("o");
        let of_object = self.store.signed_url(get, &object, Duration::from_secs(60));
        let url = of_object.await?.to_string();
        let url = url.split('?').next().unwrap_or_default();
        Ok(url.strip_suffix("/o").unwrap_or(url).to_string())
    }

    async fn abort(&self, path: &Path, id: String) -> Result<(), TierError> {
        match self.store.abort_multipart(path, &id).await {
            // Gone meanwhile.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(told("abort an upload of", path, &e)),
        }
    }
}

/// As S3 wants a query to be signed.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let each = text.bytes().map(|b| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    });
    each.collect()
}

/// Reads an answer as far as it concerns us: our own names have nothing in them that XML would escape,
/// and what cannot be read is not aborted.
fn parse(xml: &str) -> Page {
    let mut page = Page::default();
    let mut rest = xml;
    while let Some((inner, behind)) = element(rest, "Upload") {
        let text = |name| element(inner, name).map(|(text, _)| text.trim().to_string());
        if let (Some(key), Some(id)) = (text("Key"), text("UploadId")) {
            page.uploads.push(Begun { key, id });
        }
        rest = behind;
    }
    let text = |name| element(xml, name).map(|(text, _)| text.trim());
    if let (Some("true"), Some(key)) = (text("IsTruncated"), text("NextKeyMarker")) {
        let id = text("NextUploadIdMarker").unwrap_or_default();
        page.next = Some((key.into(), id.into()));
    }
    page
}

/// What stands in the first element of this name, and what follows it.
fn element<'a>(xml: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = xml.find(&open)? + open.len();
    let end = from + xml[from..].find(&close)?;
    Some((&xml[from..end], &xml[end + close.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = "<?xml version=\"1.0\"?>\n<ListMultipartUploadsResult \
        xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><UploadIdMarker/>\
        <NextKeyMarker>p/b</NextKeyMarker><NextUploadIdMarker>id2</NextUploadIdMarker>\
        <IsTruncated>true</IsTruncated><Upload><Key>p/a</Key><UploadId>id1</UploadId>\
        <Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>\n<Upload> <Key>p/b</Key>\
        <UploadId> id2 </UploadId></Upload><Upload><Key>p/c</Key></Upload></ListMultipartUploadsResult>";

    #[test]
    fn an_answer_is_read() {
        let page = parse(ANSWER);
        let found: Vec<_> = page.uploads.iter().map(|u| (&*u.key, &*u.id)).collect();
        assert_eq!(found, [("p/a", "id1"), ("p/b", "id2")]);
        assert_eq!(page.next, Some(("p/b".into(), "id2".into())));
        let last = parse(&ANSWER.replace("<IsTruncated>true", "<IsTruncated>false"));
        assert_eq!(last.next, None);
        assert_eq!(parse("<html>no</html>"), Page::default());
    }

    #[test]
    fn queries_are_escaped_as_they_are_signed() {
        assert_eq!(escaped("a/b-_.~ \u{e4}+"), "a%2Fb-_.~%20%C3%A4%2B");
    }

    proptest! {
        #[test]
        fn no_answer_panics(at in 0..ANSWER.len(), with in ".{0,9}", len in 0usize..20) {
            let end = (at + len).min(ANSWER.len());
            parse(&[&ANSWER[..at], &with, &ANSWER[end..]].concat());
            parse(&ANSWER[..at]);
        }
    }
}
