//! `tidemill module dev`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use notify::{EventKind, RecursiveMode, Watcher};
use tidemill_client::{Admin, Deploy, Error, NewTopic};
use tidemill_protocol::manifest::{Manifest, Start};
use tokio::sync::mpsc;

use super::build::build;
use super::logs::shown;
use super::project::Project;
use super::with_admin;
use crate::cli::Failure;
use crate::cli::remote::{Remote, explained, print};
use crate::cli::stop::Stop;
use crate::data_dir;

/// Changes that follow each other within this time are one.
const QUIET: Duration = Duration::from_millis(200);
/// How long logs are waited for before they are asked for anew.
const LOGS_AGAIN: Duration = Duration::from_secs(1);

/// Build a module, run it on live data of a daemon under a throw-away name, and again with every change.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module dev
  tidemill module dev --from earliest

The module runs as NAME-dev-XXXX, with offsets and state of its own. It reads the real inputs and writes to topics of its own, each
called as the real one with .dev-XXXX behind it (also where [config] names it), so nobody who reads the real outputs sees a try.
Ctrl-C removes all of it.")]
pub(super) struct Dev {
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Where to begin in the inputs: latest or earliest.
    #[arg(long, default_value = "latest", value_parser = parse_start)]
    from: Start,
}

impl Dev {
    pub(super) fn run(self, remote: &Remote) -> Result<ExitCode, Failure> {
        Project::read(&self.path)?;
        let random: [u8; 2] = data_dir::random()?;
        let mark = format!("dev-{:04x}", u16::from_le_bytes(random));
        with_admin(remote, async |admin| self.develop(admin, &mark).await)
    }

    async fn develop(&self, admin: &Admin, mark: &str) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        let mut made = Vec::new();
        let name = format!("{}-{mark}", Project::read(&self.path)?.manifest.name());
        let done = tokio::select! {
            done = self.turns(admin, mark, &mut made) => done,
            _ = stop.wanted() => Ok(()),
        };
        let cleaned = clean_up(admin, &name, &made).await;
        print(format_args!("{name} and its topics are gone"))?;
        done.and(cleaned)
    }

    /// Builds, deploys, shows logs until something changes, and so on.
    async fn turns(&self, admin: &Admin, mark: &str, made: &mut Vec<String>) -> Result<(), Failure> {
        let folder = Project::read(&self.path)?.folder().canonicalize()?;
        let mut changes = Changes::watch(&folder)?;
        loop {
            match self.turn(admin, mark, made).await {
                Ok(name) => {
                    print(format_args!("{name} runs; it is built anew when a file changes"))?;
                    tokio::select! {
                        followed = follow(admin, &name) => followed?,
                        () = changes.next() => {}
                    }
                }
                // What was deployed before goes on.
                Err(error) => {
                    print(format_args!("{error}\nwaiting for a change"))?;
                    changes.next().await;
                }
            }
        }
    }

    async fn turn(&self, admin: &Admin, mark: &str, made: &mut Vec<String>) -> Result<String, Failure> {
        let path = self.path.clone();
        let built = tokio::task::spawn_blocking(move || -> Result<_, String> {
            let project = Project::read(&path).map_err(|e| e.to_string())?;
            let built = build(&project, &[]).map_err(|e| e.to_string())?;
            Ok((project.manifest, built.component))
        });
        let (manifest, component) = built.await??;
        let (manifest, outputs) = throw_away(manifest, mark, self.from);
        create(admin, &manifest, outputs, made).await?;
        let name = manifest.name().to_owned();
        let answers = admin
            .deploy(Deploy::new(manifest, component))
            .await
            .map_err(explained)?;
        answers.finish(drop).await.map_err(explained)?;
        Ok(name)
    }
}

/// The manifest under a name of its own, writing to topics of its own, which come second.
fn throw_away(mut manifest: Manifest, mark: &str, from: Start) -> (Manifest, Vec<String>) {
    let real: Vec<String> = manifest.writable_topics().map(str::to_owned).collect();
    let own = |topic: &str| format!("{topic}.{mark}");
    manifest.module.name = format!("{}-{mark}", manifest.module.name);
    manifest.input.iter_mut().for_each(|input| input.start = from);
    manifest
        .output
        .iter_mut()
        .for_each(|output| output.topic = own(&output.topic));
    manifest.dead_letter.topic = manifest.dead_letter.topic.as_deref().map(own);
    for value in manifest.config.values_mut().filter(|value| real.contains(value)) {
        *value = own(value);
    }
    let outputs = real.iter().map(|topic| own(topic)).collect();
    (manifest, outputs)
}

/// Creates the outputs that are not there, as wide as the widest input.
async fn create(
    admin: &Admin,
    manifest: &Manifest,
    outputs: Vec<String>,
    made: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut widest = 1;
    for input in &manifest.input {
        let topic = admin.describe_topic(&input.topic).await.map_err(explained)?;
        widest = widest.max(topic.partition_count());
    }
    for topic in outputs {
        if !made.contains(&topic) {
            admin
                .create_topic(NewTopic::new(&topic, widest))
                .await
                .map_err(explained)?;
            print(format_args!("outputs: `tidemill consume {topic}`"))?;
            made.push(topic);
        }
    }
    Ok(())
}

async fn clean_up(admin: &Admin, name: &str, topics: &[String]) -> Result<(), Failure> {
    let deleted = admin.delete_module(name).await;
    for topic in topics {
        admin.delete_topic(topic).await.map_err(explained)?;
    }
    match deleted {
        // It was never deployed.
        Err(Error::Refused { kind, .. }) if kind == "unknown-module" => Ok(()),
        deleted => deleted.map_err(explained),
    }
}

/// Prints what the module logs, for ever.
async fn follow(admin: &Admin, name: &str) -> Result<(), Failure> {
    loop {
        let mut answers = admin.module_logs(name, 0, true, None).await.map_err(explained)?;
        while let Ok(Some(line)) = answers.next_log().await {
            print(shown(&line))?;
        }
        tokio::time::sleep(LOGS_AGAIN).await;
    }
}

/// Changes of a project's files.
struct Changes {
    changed: mpsc::Receiver<()>,
    _watcher: notify::RecommendedWatcher,
}

impl Changes {
    fn watch(folder: &Path) -> Result<Self, Failure> {
        // One that waits is as good as many.
        let (change, changed) = mpsc::channel(1);
        let root = folder.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_ours = |path: &PathBuf| path.strip_prefix(&root).is_ok_and(is_source);
            let is_change =
                |event: &notify::Event| !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(is_ours);
            if event.is_ok_and(|event| is_change(&event)) {
                let _ = change.try_send(());
            }
        })?;
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(Self {
            changed,
            _watcher: watcher,
        })
    }

    /// Waits for a change, and until no more follow.
    async fn next(&mut self) {
        self.changed.recv().await;
        while tokio::time::timeout(QUIET, self.changed.recv()).await.is_ok() {}
    }
}

/// Whether a path below the project is one that a build reads and does not write.
fn is_source(path: &Path) -> bool {
    let first = path
        .components()
        .next()
        .map(|first| first.as_os_str().to_string_lossy().into_owned());
    first.is_some_and(|first| first != "target" && first != "Cargo.lock" && first != ".git")
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "latest" => Ok(Start::Latest),
        "earliest" => Ok(Start::Earliest),
        _ => Err("must be latest or earliest".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_try_reads_the_real_inputs_and_writes_to_topics_of_its_own() {
        let manifest: Manifest = toml::from_str(
            "module = { name = \"m\" }\ninput = [{ topic = \"in\" }]\noutput = [{ topic = \"out\" }]\ndead-letter = { topic = \"dlq\" }\nconfig = { to = \"out\", gap = \"5\" }",
        )
        .unwrap();
        let (manifest, outputs) = throw_away(manifest, "dev-1", Start::Earliest);
        assert_eq!((manifest.name(), manifest.input[0].topic.as_str()), ("m-dev-1", "in"));
        assert_eq!(outputs, ["out.dev-1", "dlq.dev-1"]);
        assert_eq!(
            manifest.writable_topics().collect::<Vec<_>>(),
            ["out.dev-1", "dlq.dev-1"]
        );
        assert_eq!(
            (manifest.config["to"].as_str(), manifest.config["gap"].as_str()),
            ("out.dev-1", "5")
        );
    }

    #[test]
    fn what_a_build_writes_is_no_change() {
        assert!(is_source(Path::new("src/lib.rs")) && is_source(Path::new("module.toml")));
        assert!(!is_source(Path::new("target/wasm32-wasip2/release/m.wasm")) && !is_source(Path::new("Cargo.lock")));
    }
}
