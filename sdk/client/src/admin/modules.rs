//! Modules, over the management protocol: one stream for each call, answers one a line until the last.

use std::sync::Arc;

use bytes::Bytes;
use quinn::RecvStream;
use sha2::{Digest as _, Sha256};
use tidemill_protocol::admin::{
    ANSWER_BYTES_MAX, Answer, Call, Canary, Digest, LogLine, ModuleStatus, NodeStatus, StatePage, StateQuery,
    VersionStatus,
};
use tidemill_protocol::manifest::{Manifest, Start};

use super::Admin;
use crate::client::Inner;
use crate::error::{Error, Reach, Result};
use crate::limits::COMPONENT_BYTES_MAX;
use crate::net::endpoint::Protocol;

/// What to deploy.
#[derive(Clone, Debug)]
pub struct Deploy {
    /// What the module is and may do.
    pub manifest: Manifest,
    /// The component, as the compiler left it.
    pub component: Bytes,
    /// SHA-256 of the component, checked by the daemon against what arrives.
    pub digest: Digest,
    /// Whether to wait until every member has joined its group; otherwise until the deployment is durable.
    pub wait: bool,
    /// Only on some tasks for now, if another version of it runs.
    pub canary: Option<Canary>,
}

impl Deploy {
    /// Deploys these bytes, and waits until the module runs.
    pub fn new(manifest: Manifest, component: impl Into<Bytes>) -> Deploy {
        let component = component.into();
        let digest = Digest(Sha256::digest(&component).into());
        Deploy {
            manifest,
            component,
            digest,
            wait: true,
            canary: None,
        }
    }
}

impl Admin {
    /// Deploys a module, or a new version of one. Progress comes as it is made; the last answer is `done`.
    pub async fn deploy(&self, deploy: Deploy) -> Result<Answers> {
        if COMPONENT_BYTES_MAX < deploy.component.len() {
            return Err(Error::InvalidArgument(format!(
                "a component of {} bytes",
                deploy.component.len()
            )));
        }
        let component_bytes = deploy.component.len() as u64;
        let Deploy {
            manifest,
            component,
            digest,
            wait,
            canary,
        } = deploy;
        self.ask(
            &Call::ModuleDeploy {
                manifest: Box::new(manifest),
                component_bytes,
                digest,
                wait,
                canary,
            },
            component,
        )
        .await
    }

    /// Runs this version over the last `batches` of each task of a module, beside the one that runs: what differs comes as progress.
    pub async fn shadow_module(&self, deploy: Deploy, batches: u32) -> Result<Answers> {
        let call = Call::ModuleShadow {
            manifest: Box::new(deploy.manifest),
            component_bytes: deploy.component.len() as u64,
            digest: deploy.digest,
            batches,
        };
        self.ask(&call, deploy.component).await
    }

    /// All modules.
    pub async fn list_modules(&self) -> Result<Vec<ModuleStatus>> {
        let mut answers = self.ask(&Call::ModuleList, Bytes::new()).await?;
        let mut modules = Vec::new();
        while let Some(answer) = answers.next().await? {
            if let Answer::Module(status) = answer {
                modules.push(*status);
            }
        }
        Ok(modules)
    }

    /// One module.
    pub async fn module_status(&self, module: &str) -> Result<ModuleStatus> {
        self.one_module(&Call::ModuleStatus {
            module: module.to_owned(),
        })
        .await?
        .ok_or_else(no_answer)
    }

    /// The last `tail` log lines of a module of a level and above, and with `follow` those to come, until the answers are dropped.
    pub async fn module_logs(&self, module: &str, tail: u32, follow: bool, level: Option<String>) -> Result<Answers> {
        self.ask(
            &Call::ModuleLogs {
                module: module.to_owned(),
                follow,
                tail,
                level,
            },
            Bytes::new(),
        )
        .await
    }

    /// The versions of a module that are kept, oldest first.
    pub async fn module_history(&self, module: &str) -> Result<Vec<VersionStatus>> {
        let call = Call::ModuleHistory {
            module: module.to_owned(),
        };
        let mut answers = self.ask(&call, Bytes::new()).await?;
        let mut versions = Vec::new();
        while let Some(answer) = answers.next().await? {
            if let Answer::Version(version) = answer {
                versions.push(*version);
            }
        }
        Ok(versions)
    }

    /// Lets a kept version run, by its label or number; by default the one before. Offsets and state are kept, which needs the same
    /// layout of the state; with `restore_state` both are as of the migration away from the version's layout, and outputs since then
    /// repeat.
    pub async fn rollback_module(
        &self,
        module: &str,
        to: Option<String>,
        restore_state: bool,
        wait: bool,
    ) -> Result<Answers> {
        let call = Call::ModuleRollback {
            module: module.to_owned(),
            to,
            restore_state,
            wait,
        };
        self.ask(&call, Bytes::new()).await
    }

    /// Lets a canary take over everywhere.
    pub async fn promote_module(&self, module: &str, wait: bool) -> Result<Answers> {
        let module = module.to_owned();
        self.ask(&Call::ModulePromote { module, wait }, Bytes::new()).await
    }

    /// Begins again elsewhere in the inputs of a module; with `reset_state` its state is forgotten.
    pub async fn rewind_module(&self, module: &str, to: Start, reset_state: bool) -> Result<()> {
        let module = module.to_owned();
        self.one_module(&Call::ModuleRewind {
            module,
            to,
            reset_state,
        })
        .await
        .map(drop)
    }

    /// Gives a module the records of its dead letters again, each once; only those with this code, if one is given.
    pub async fn redrive_module(&self, module: &str, code: Option<String>, dry_run: bool) -> Result<Answers> {
        let module = module.to_owned();
        self.ask(&Call::ModuleRedrive { module, code, dry_run }, Bytes::new())
            .await
    }

    /// Stops a module; its offsets and state are kept.
    pub async fn pause_module(&self, module: &str, reason: Option<String>) -> Result<()> {
        self.one_module(&Call::ModulePause {
            module: module.to_owned(),
            reason,
        })
        .await
        .map(drop)
    }

    /// Lets a module go on from its committed offsets.
    pub async fn resume_module(&self, module: &str) -> Result<()> {
        self.one_module(&Call::ModuleResume {
            module: module.to_owned(),
        })
        .await
        .map(drop)
    }

    /// Removes a module and its state.
    pub async fn delete_module(&self, module: &str) -> Result<()> {
        self.one_module(&Call::ModuleDelete {
            module: module.to_owned(),
        })
        .await
        .map(drop)
    }

    /// A page of a module's state; [`StatePage::last`] says how to ask for the next.
    pub async fn module_state(&self, query: StateQuery) -> Result<StatePage> {
        let mut answers = self.ask(&Call::ModuleState(query), Bytes::new()).await?;
        let mut found = None;
        while let Some(answer) = answers.next().await? {
            if let Answer::State(page) = answer {
                found = Some(page);
            }
        }
        found.ok_or_else(no_answer)
    }

    /// The node that answers.
    pub async fn node_status(&self) -> Result<NodeStatus> {
        let mut answers = self.ask(&Call::NodeStatus, Bytes::new()).await?;
        let mut found = None;
        while let Some(answer) = answers.next().await? {
            if let Answer::Node(status) = answer {
                found = Some(*status);
            }
        }
        found.ok_or_else(no_answer)
    }

    async fn one_module(&self, call: &Call) -> Result<Option<ModuleStatus>> {
        let mut answers = self.ask(call, Bytes::new()).await?;
        let mut found = None;
        while let Some(answer) = answers.next().await? {
            if let Answer::Module(status) = answer {
                found = Some(*status);
            }
        }
        Ok(found)
    }

    /// Sends a call with what follows it.
    async fn ask(&self, call: &Call, body: Bytes) -> Result<Answers> {
        let json = serde_json::to_vec(call).map_err(|e| Error::InvalidArgument(format!("the call: {e}")))?;
        let length =
            u32::try_from(json.len()).map_err(|_| Error::InvalidArgument("the call is too long".to_owned()))?;
        let connection = self.client.admin_connection().await?;
        let (mut send, receive) = connection
            .open_bi()
            .await
            .map_err(|e| Error::disconnected(e, Reach::NotSent))?;
        let mut frame = [Bytes::copy_from_slice(&length.to_be_bytes()), Bytes::from(json), body];
        match send.write_all_chunks(&mut frame).await {
            Ok(()) => {
                // A daemon that has read enough may have closed its side: the answers say why.
                let _ = send.finish();
            }
            // It refuses what follows; its answer says why.
            Err(quinn::WriteError::Stopped(_)) => {}
            Err(error) => return Err(Error::disconnected(error, Reach::Unknown)),
        }
        Ok(Answers {
            receive,
            _connection: connection,
            buffer: Vec::new(),
            is_over: false,
        })
    }
}

/// The answers to a call. Dropping them ends the call's stream; what the call does, it does all the same.
#[derive(Debug)]
pub struct Answers {
    receive: RecvStream,
    _connection: quinn::Connection,
    buffer: Vec<u8>,
    is_over: bool,
}

impl Answers {
    /// The next answer; none after `done`. A refusal is an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Answer>> {
        if self.is_over {
            return Ok(None);
        }
        let line = self.line().await?;
        let answer: Answer = serde_json::from_slice(&line).map_err(Error::protocol)?;
        self.is_over = answer.is_last();
        match answer {
            Answer::Done => Ok(None),
            Answer::Error { code, message, hint } => {
                let kind = serde_json::to_value(code)
                    .ok()
                    .and_then(|kind| kind.as_str().map(str::to_owned));
                let message = match hint {
                    Some(hint) => format!("{message}: {hint}"),
                    None => message,
                };
                Err(Error::Refused {
                    kind: kind.unwrap_or_default(),
                    message,
                })
            }
            answer => Ok(Some(answer)),
        }
    }

    /// The next log line; none at the end.
    pub async fn next_log(&mut self) -> Result<Option<LogLine>> {
        while let Some(answer) = self.next().await? {
            if let Answer::Log(line) = answer {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Reads to the end, telling of progress.
    pub async fn finish(mut self, mut progress: impl FnMut(Answer)) -> Result<()> {
        while let Some(answer) = self.next().await? {
            progress(answer);
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(line);
            }
            if ANSWER_BYTES_MAX < self.buffer.len() {
                return Err(Error::protocol("an answer line without end"));
            }
            match self.receive.read_chunk(64 * 1024, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) => return Err(Error::disconnected("the answers were cut short", Reach::Unknown)),
                Err(error) => return Err(Error::disconnected(error, Reach::Unknown)),
            }
        }
    }
}

impl Inner {
    /// A connection that speaks the management protocol, to the first address that answers; kept for the next call.
    async fn admin_connection(self: &Arc<Self>) -> Result<quinn::Connection> {
        let mut kept = self.admin.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| connection.close_reason().is_none()) {
            return Ok(connection.clone());
        }
        let mut last = Error::Unreachable {
            addresses: String::new(),
            reason: "none given".to_owned(),
        };
        for address in self.addresses() {
            match self
                .network
                .endpoints
                .connect(Protocol::Admin, &address, self.network.connect_timeout)
                .await
            {
                Ok(connection) => return Ok(kept.insert(connection).clone()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn no_answer() -> Error {
    Error::protocol("the answers ended without the one asked for")
}
