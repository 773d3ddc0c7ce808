//! Management calls about modules. What changes something is proposed and answered when it is applied.
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use tidemill_protocol::{
    admin::{self, Answer, Call, ErrorCode},
    manifest::Manifest,
};

use super::{
    Modules,
    change::{Change, Deploy, Pause, Promote, Refused, Rollback},
    durable,
    edition::Edition,
    releases, shadow, status,
    tickets::Waiter,
};
use crate::{
    config_keys::CLEANUP_POLICY,
    context::{self, Context},
    effect::RequestId,
    entry::{Command, NewTopic},
    limits::{MIGRATION_ROOM, MODULES_MAX},
};

/// A management call as the core gets it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is asked.
    pub call: Call,
    /// What `migrator.state-version` of the component says that came with it; 0 without that.
    pub state_version: u32,
    /// What may still be written to the disk.
    pub free_bytes: u64,
}

impl From<Call> for Asked {
    fn from(call: Call) -> Self {
        Self {
            call,
            state_version: 0,
            free_bytes: u64::MAX,
        }
    }
}

impl Modules {
    /// A management call. For a deploy, the component has been received, checked and compiled by the caller.
    pub(crate) fn handle_admin(
        &mut self,
        ctx: &mut Context<'_>,
        from: RequestId,
        principal: &str,
        Asked {
            call,
            state_version,
            free_bytes,
        }: Asked,
    ) {
        match call {
            Call::ModuleDeploy {
                manifest,
                digest,
                wait,
                canary,
                ..
            } => {
                let by = String::from(principal);
                let canary = canary.map(|canary| self.canary(manifest.name(), canary));
                let deploy = Deploy {
                    manifest: Arc::new(*manifest),
                    digest: digest.0,
                    state_version,
                    topics: Vec::new(),
                    by,
                    canary,
                };
                self.deploy(ctx, from, deploy, wait, free_bytes);
            }
            Call::ModuleShadow {
                manifest,
                digest,
                batches,
                ..
            } => {
                let release = durable::Release {
                    number: shadow::OTHER,
                    manifest: Arc::new(*manifest),
                    digest: digest.0,
                    state_version,
                    deployed_at: ctx.now,
                    by: String::from(principal),
                    activated_at: None,
                    returned: None,
                };
                let module = release.manifest.name().to_string();
                let edition = Edition::loading(&release, ctx.state);
                match self.deployed.get_mut(&module) {
                    None => ctx.respond_admin(from, unknown(&module)),
                    Some(deployed) => deployed.shadow(ctx, &mut self.tickets, from, edition, batches),
                }
            }
            Call::ModuleHistory { module } => match ctx.state.modules.get(&module) {
                None => ctx.respond_admin(from, unknown(&module)),
                Some(durable) => {
                    for version in status::history(durable) {
                        ctx.respond_admin(from, Answer::Version(Box::new(version)));
                    }
                    ctx.respond_admin(from, Answer::Done);
                }
            },
            Call::ModuleRollback {
                module,
                to,
                restore_state,
                wait,
            } => {
                let rollback = Rollback {
                    module: module.clone(),
                    to,
                    from: None,
                    reason: format!("rolled back by {principal}"),
                    restore_state,
                };
                propose(ctx, from, module, wait, Change::Rollback(rollback));
            }
            Call::ModuleRewind {
                module,
                to,
                reset_state,
            } => match self.deployed.get_mut(&module) {
                None => ctx.respond_admin(from, unknown(&module)),
                Some(deployed) => deployed.rewind(ctx, &mut self.tickets, from, (to, reset_state)),
            },
            Call::ModuleRedrive { module, code, dry_run } => match self.deployed.get_mut(&module) {
                None => ctx.respond_admin(from, unknown(&module)),
                Some(deployed) => deployed.redrive(ctx, &mut self.tickets, from, code, dry_run),
            },
            Call::ModulePromote { module, wait } => {
                let promote = Promote {
                    module: module.clone(),
                    release: None,
                };
                propose(ctx, from, module, wait, Change::Promote(promote));
            }
            Call::ModuleList => {
                for durable in ctx.state.modules.iter() {
                    let status = self.status(ctx.state, ctx.now, durable);
                    ctx.respond_admin(from, Answer::Module(Box::new(status)));
                }
                ctx.respond_admin(from, Answer::Done);
            }
            Call::ModuleStatus { module } => match ctx.state.modules.get(&module) {
                None => ctx.respond_admin(from, unknown(&module)),
                Some(durable) => {
                    let status = self.status(ctx.state, ctx.now, durable);
                    ctx.respond_admin(from, Answer::Module(Box::new(status)));
                    ctx.respond_admin(from, Answer::Done);
                }
            },
            Call::ModuleLogs {
                module,
                follow,
                tail,
                level,
            } => match self.deployed.get_mut(&module) {
                None => ctx.respond_admin(from, unknown(&module)),
                Some(deployed) => deployed.logs.show(ctx, from, tail, follow, level.as_deref()),
            },
            Call::ModulePause { module, reason } => {
                let reason = reason.unwrap_or_else(|| format!("by {principal}"));
                let pause = Pause {
                    module: module.clone(),
                    incarnation: None,
                    reason,
                };
                propose(ctx, from, module, false, Change::Pause(pause));
            }
            Call::ModuleResume { module } => propose(ctx, from, module.clone(), false, Change::Resume(module)),
            Call::ModuleDelete { module } => propose(ctx, from, module.clone(), false, Change::Delete(module)),
            Call::NodeStatus | Call::ModuleState(_) => {
                let message = "this is answered by the daemon";
                ctx.respond_admin(from, Answer::error(ErrorCode::InvalidCall, message));
            }
        }
    }

    fn deploy(&mut self, ctx: &mut Context<'_>, from: RequestId, mut deploy: Deploy, wait: bool, free_bytes: u64) {
        deploy.topics = missing_topics(ctx, &deploy.manifest);
        if let Some(missing) = deploy.topics.first().filter(|_| !ctx.config.auto_create_topics) {
            let hint = format!(
                "tidemill topic create {} --partitions {}",
                missing.name, missing.partitions
            );
            let message = format!("topic {:?} does not exist", missing.name);
            return ctx.respond_admin(from, Answer::error_with_hint(ErrorCode::UnknownTopic, message, hint));
        }
        let module = String::from(deploy.manifest.name());
        if let Some(running) = ctx.state.modules.get(&module) {
            let (before, after) = (running.running().state_version, deploy.state_version);
            let copied = (before != after).then(|| ctx.state.modules.state_bytes(&module));
            if copied.is_some_and(|bytes| free_bytes / MIGRATION_ROOM < bytes) {
                let bytes = copied.unwrap_or_default();
                let message = format!(
                    "{bytes} bytes of state would be copied into layout {after}, and {free_bytes} bytes of disk are free"
                );
                let hint = format!("make room for {} bytes", bytes.saturating_mul(MIGRATION_ROOM));
                return ctx.respond_admin(from, Answer::error_with_hint(ErrorCode::Exhausted, message, hint));
            }
            let layout =
                copied.map(|bytes| format!("~ layout of the state: {before} -> {after}, {bytes} bytes migrated"));
            for message in deploy
                .manifest
                .changes_from(running.manifest())
                .into_iter()
                .chain(layout)
            {
                let stage = "changed".into();
                ctx.respond_admin(from, Answer::Progress { stage, message });
            }
        }
        propose(ctx, from, module, wait, Change::Deploy(deploy));
    }

    /// Chooses a canary's tasks: the first of those that this node has.
    fn canary(&self, module: &str, canary: admin::Canary) -> durable::Canary {
        let owned = self.deployed.get(module).into_iter();
        let owned = owned.flat_map(|deployed| deployed.tasks.keys().copied());
        let count = usize::try_from(canary.tasks).unwrap_or(usize::MAX);
        durable::Canary {
            tasks: owned.take(count).collect(),
            failures_max: canary.failures_max,
            lag_max: i64::try_from(canary.lag_max).unwrap_or(i64::MAX),
            promote_after_ms: i64::try_from(canary.promote_after_ms).unwrap_or(i64::MAX),
        }
    }
}

/// The answer to a call whose change was refused.
pub(super) fn refusal(module: &str, refused: &Refused) -> Answer {
    match refused {
        Refused::UnknownModule => unknown(module),
        Refused::TooManyModules => Answer::error_with_hint(
            ErrorCode::Exhausted,
            format!("{MODULES_MAX} modules are deployed, more are not allowed"),
            "delete one: tidemill module delete NAME",
        ),
        Refused::MissingTopic(topic) => {
            let message = format!("topic {topic:?} does not exist");
            Answer::error_with_hint(
                ErrorCode::UnknownTopic,
                message,
                format!("tidemill topic create {topic}"),
            )
        }
        Refused::Unfit(why) => Answer::error(ErrorCode::InvalidManifest, why.clone()),
        Refused::Topic(topic, code) => {
            let message = format!("topic {topic:?} cannot be created: {}", code.sentence());
            Answer::error(ErrorCode::UnknownTopic, message)
        }
        Refused::UnknownRelease(wanted) => {
            let message = format!(
                "no version {} of module {module:?} is kept",
                releases::wanted(wanted.as_ref())
            );
            let hint = format!("tidemill module history {module}");
            Answer::error_with_hint(ErrorCode::UnknownVersion, message, hint)
        }
        Refused::Fenced => {
            let message = format!("module {module:?} was changed meanwhile");
            Answer::error_with_hint(ErrorCode::Unavailable, message, "try again")
        }
        Refused::NoCanary => {
            let message = format!("no canary of module {module:?} is on trial");
            Answer::error_with_hint(
                ErrorCode::WrongState,
                message,
                format!("tidemill module history {module}"),
            )
        }
        Refused::CanaryReads => {
            let message = "a canary must read the topics that the running version reads";
            Answer::error_with_hint(ErrorCode::InvalidManifest, message, "deploy it without --canary")
        }
        Refused::CanaryLayout(running, own) => {
            let message = format!(
                "a canary must keep the layout of the state: the running version has layout {running}, this one {own}"
            );
            Answer::error_with_hint(ErrorCode::WrongState, message, "deploy it without --canary")
        }
        Refused::OlderLayout(own, state, is_kept) => {
            let message =
                format!("the version reads layout {own} of the state, and the state was migrated to layout {state}");
            if *is_kept {
                let hint =
                    "--restore-state goes back to state and offsets as of the migration: outputs since then repeat";
                Answer::error_with_hint(ErrorCode::WrongState, message, hint)
            } else {
                Answer::error(ErrorCode::WrongState, message + ", from one that is not kept any more")
            }
        }
        Refused::NotKept(layout) => {
            let message = format!("no state of layout {layout} is kept: only that of before the last migration is");
            let hint = format!("tidemill module history {module}");
            Answer::error_with_hint(ErrorCode::WrongState, message, hint)
        }
        Refused::NothingToRestore => {
            let message = "the version can go on with the state as it is: there is nothing to restore";
            Answer::error_with_hint(ErrorCode::WrongState, message, "roll back without --restore-state")
        }
        other => Answer::error(ErrorCode::Internal, format!("refused: {other:?}")),
    }
}

/// The answer to a call whose change never became an entry.
pub(super) fn unavailable(refusal: context::Refusal) -> Answer {
    match refusal {
        context::Refusal::DiskFull => Answer::error(ErrorCode::Exhausted, "no space is left on the disk"),
        context::Refusal::Overloaded => Answer::error(ErrorCode::Exhausted, "too much waits to be written"),
        context::Refusal::TooLarge => Answer::error(ErrorCode::InvalidCall, "it is larger than an entry may be"),
        context::Refusal::Stopping => Answer::error(ErrorCode::Unavailable, "the node stops"),
    }
}

fn propose(ctx: &mut Context<'_>, from: RequestId, module: String, wait: bool, change: Change) {
    let waiter = Waiter::Admin { from, module, wait };
    ctx.propose(Command::Module(change), context::Waiter::Module(waiter));
}

/// Topics that the manifest names and that do not exist. All get as many partitions as the inputs that exist.
fn missing_topics(ctx: &mut Context<'_>, manifest: &Manifest) -> Vec<NewTopic> {
    let existing = manifest
        .input
        .iter()
        .filter_map(|input| ctx.state.topics.get(&input.topic));
    let count = existing.map(|topic| topic.partitions()).max();
    let count = count.unwrap_or(ctx.config.default_partitions);
    let inputs = manifest.input.iter().map(|input| input.topic.as_str());
    let tables = || manifest.tables.values().map(String::as_str);
    let mut missing: Vec<&str> = Vec::new();
    for name in inputs.chain(manifest.writable_topics()).chain(tables()) {
        if ctx.state.topics.get(name).is_none() && !missing.contains(&name) {
            missing.push(name);
        }
    }
    let new = |name: &str| NewTopic {
        name: name.to_string(),
        id: ctx.random_uuid(),
        partitions: count,
        // Time must not take from a table's topic what no later record has replaced.
        configs: tables()
            .filter(|table| *table == name)
            .map(|_| (CLEANUP_POLICY.name.to_string(), "compact".to_string()))
            .collect(),
    };
    missing.into_iter().map(new).collect()
}

fn unknown(module: &str) -> Answer {
    Answer::error_with_hint(
        ErrorCode::UnknownModule,
        format!("there is no module {module:?}"),
        "tidemill module list",
    )
}
