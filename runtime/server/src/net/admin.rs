//! Management calls: one QUIC stream each. The protocol is described in `tidemill_protocol::admin`.
use std::sync::Arc;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tidemill_protocol::admin::{ANSWER_BYTES_MAX, Answer, CALL_BYTES_MAX, Call, Digest, ErrorCode};
use tokio::{io::AsyncReadExt, sync::mpsc, time::timeout};

use super::gate::Gate;
use crate::{limits, node::Event};

/// Serves one call. Whatever goes wrong is the last line of its answer, as long as there is somebody to read it.
pub(super) async fn call(gate: Gate, principal: Arc<str>, mut from: RecvStream, mut to: SendStream) {
    let connection = gate.connection();
    let stop = gate.clone();
    let answered = async {
        match read_call(&gate, &mut from).await {
            Err(refused) => write_answer(&mut to, &refused).await,
            Ok((call, component)) => {
                if let Some(component) = component {
                    let (stage, message) = ("received", format!("{} bytes received", component.bytes.len()));
                    write_answer(
                        &mut to,
                        &Answer::Progress {
                            stage: stage.to_owned(),
                            message,
                        },
                    )
                    .await?;
                    if let Err(refused) = compile(&gate, &call, component).await {
                        return write_answer(&mut to, &refused).await;
                    }
                    let (stage, message) = ("compiled", "checked against the world and compiled");
                    write_answer(
                        &mut to,
                        &Answer::Progress {
                            stage: stage.to_owned(),
                            message: message.to_owned(),
                        },
                    )
                    .await?;
                }
                let (reply, answers) = mpsc::channel(limits::ADMIN_ANSWERS_MAX);
                let connection = connection.id;
                gate.send(Event::Admin {
                    connection,
                    principal,
                    call,
                    reply,
                });
                write_answers(&mut to, answers).await
            }
        }
    };
    tokio::select! {
        done = answered => if let Err(error) = done {
            tracing::debug!(%error, "management call ended early");
        },
        // A caller that follows logs must not hold the node up.
        () = stop_following(stop) => {}
    }
    let _ = to.finish();
}

async fn stop_following(mut gate: Gate) {
    gate.stopping().await;
    tokio::time::sleep(limits::ADMIN_GRACE).await;
}

/// The call, and what follows it on the stream.
async fn read_call(gate: &Gate, from: &mut RecvStream) -> Result<(Call, Option<Component>), Answer> {
    let invalid = |message: String| Answer::error(ErrorCode::InvalidCall, message);
    let cut = |_| invalid("the call was cut off".to_owned());
    let slow = |_| invalid("the call took too long to arrive".to_owned());
    let length = timeout(limits::FRAME_TIMEOUT, from.read_u32())
        .await
        .map_err(slow)?
        .map_err(cut)?;
    if CALL_BYTES_MAX < length {
        return Err(invalid(format!(
            "the call has {length} bytes, at most {CALL_BYTES_MAX} are allowed"
        )));
    }
    let bytes = read(gate, from, u64::from(length)).await?;
    let call: Call =
        serde_json::from_slice(&bytes.bytes).map_err(|e| invalid(format!("the call cannot be read: {e}")))?;
    let (Call::ModuleDeploy { component_bytes, .. } | Call::ModuleShadow { component_bytes, .. }) = &call else {
        return Ok((call, None));
    };
    let bound = gate.config().modules.component_bytes_max;
    if bound.0 < *component_bytes {
        let message = format!("the component has {component_bytes} bytes, this node takes at most {bound}");
        return Err(Answer::error_with_hint(
            ErrorCode::Exhausted,
            message,
            "raise modules.component-bytes-max, or build the module for size",
        ));
    }
    let component = read(gate, from, *component_bytes).await?;
    Ok((call, Some(component)))
}

/// Checks what arrived, keeps and compiles it.
async fn compile(gate: &Gate, call: &Call, component: Component) -> Result<(), Answer> {
    let (Call::ModuleDeploy { digest, .. } | Call::ModuleShadow { digest, .. }) = call else {
        return Ok(());
    };
    let (expected, compiler) = (*digest, gate.compiler());
    let staged = tokio::task::spawn_blocking(move || {
        let digest = Digest(tidemill_host::digest(&component.bytes));
        if digest != expected {
            let message = format!("the component that arrived has digest {digest}, announced was {expected}");
            return Err(Answer::error_with_hint(ErrorCode::InvalidCall, message, "deploy again"));
        }
        compiler
            .stage(&digest.0, &component.bytes)
            .map_err(|message| Answer::error(ErrorCode::InvalidComponent, message))
    });
    staged
        .await
        .unwrap_or_else(|error| Err(Answer::error(ErrorCode::Internal, error.to_string())))
}

/// Bytes that count against the node's budget as long as they are held.
#[derive(Debug)]
struct Component {
    bytes: Bytes,
    _permit: super::Permit,
}

async fn read(gate: &Gate, from: &mut RecvStream, count: u64) -> Result<Component, Answer> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let stopping = || Answer::error(ErrorCode::Unavailable, "the node stops");
    let permit = gate.admit(count).await.ok_or_else(stopping)?;
    let mut bytes = Vec::new();
    let mut from = from.take(count as u64);
    let arrived = timeout(limits::FRAME_TIMEOUT, from.read_to_end(&mut bytes)).await;
    match arrived {
        Ok(Ok(read)) if read == count => Ok(Component {
            bytes: bytes.into(),
            _permit: permit,
        }),
        Ok(_) => Err(Answer::error(
            ErrorCode::InvalidCall,
            format!("{count} bytes were announced and fewer came"),
        )),
        Err(_) => Err(Answer::error(
            ErrorCode::InvalidCall,
            "the bytes of the call took too long to arrive",
        )),
    }
}

async fn write_answers(to: &mut SendStream, mut answers: mpsc::Receiver<Answer>) -> std::io::Result<()> {
    loop {
        let answer = tokio::select! {
            answer = answers.recv() => answer,
            // The caller has gone; there is nobody to write to.
            _ = to.stopped() => return Ok(()),
        };
        let answer = answer.unwrap_or_else(|| {
            Answer::error(
                ErrorCode::Unavailable,
                "the node stops, or the caller was too slow to read",
            )
        });
        write_answer(to, &answer).await?;
        if answer.is_last() {
            return Ok(());
        }
    }
}

async fn write_answer(to: &mut SendStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(std::io::Error::other)?;
    if ANSWER_BYTES_MAX <= line.len() {
        line = serde_json::to_vec(&Answer::error(ErrorCode::Internal, "the answer is too large"))
            .map_err(std::io::Error::other)?;
    }
    line.push(b'\n');
    timeout(limits::WRITE_TIMEOUT, to.write_all(&line))
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    Ok(())
}
