//! The in-process way to a broker: the client's transport without a socket.

use crate::service::Service;
use bytes::Bytes;
use flowstone_client::{BoxFuture, RawAnswer, Route, Transport};
use flowstone_wire::Failure;
use std::sync::Arc;

/// A client's way to the broker of the same process.
pub(crate) struct InProcess(pub(crate) Arc<Service>);

impl Transport for InProcess {
    fn call(
        &self,
        _route: Route,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<RawAnswer, Failure>> {
        let answer = self.0.clone().handle(api, header, payload);
        Box::pin(async move {
            let (header, payload) = match answer.await {
                Ok(answer) => answer,
                Err(failure) => (
                    flowstone_wire::native::encode(&Err::<(), _>(failure))?,
                    Vec::new(),
                ),
            };
            Ok(RawAnswer {
                header: header.into(),
                payload,
            })
        })
    }
}
