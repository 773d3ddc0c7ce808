//! Commands of modules, and how the answers of the management protocol print.
//!
//! `deploy NAME in=A,B [out=C] [dlq=D] [members=N] [start=S] [version=V] [wait=1] [more=JSON]`: JSON is more of the manifest's top level
//! `loaded NAME [error=TEXT]`: the host answers a `load`
//! `process [COUNT] [first=N] [as=trap|timeout|retry]`: the guest of `guest.rs` runs what was asked for, COUNT times (default: until
//!   nothing is asked for), or fails in this way whatever it is given
//! `lose`: the host never answers the oldest run
//! `status NAME`, `list`, `logs NAME [tail=N] [follow=1]`, `pause NAME [reason=TEXT]`, `resume NAME`, `delete-module NAME`
//! `state NAME TASK`: what the guest has counted; `dead-letters TOPIC/PARTITION`: records with their headers
use std::{error::Error, fmt::Write as _};

use goldenscript::Command;
use tidemill_broker::{
    effect::{LogRead, Table},
    module::{run::Verdict, state_key},
};
use tidemill_protocol::{
    admin::{Answer, Call, Digest, ModuleStatus},
    api::Response,
    batch::batches,
    manifest::Manifest,
};

use crate::{Output, guest, records::place, world::World};

type Done = Result<(), Box<dyn Error>>;

pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let run = match command.name.as_str() {
        "deploy" => deploy,
        "loaded" => loaded,
        "process" => process,
        "lose" => lose,
        "status" | "list" | "logs" | "pause" | "resume" | "delete-module" => call,
        "state" => state,
        "dead-letters" => dead_letters,
        _ => return None,
    };
    Some(run(world, command).map(|()| String::new()))
}

pub fn show(_response: &Response) -> Option<String> {
    None
}

/// One line of a management answer; a module takes several.
pub fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::Progress { stage, message } => format!("{stage}: {message}"),
        Answer::Module(status) => show_status(status),
        Answer::Log(line) => format!("log {} task {}: {}", line.level, line.task, line.message),
        Answer::Node(node) => format!("{node:?}"),
        Answer::Done => "done".into(),
        Answer::Error { code, message, hint } => {
            let hint = hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
            format!("error {code:?}: {message}{hint}")
        }
    }
}

fn show_status(status: &ModuleStatus) -> String {
    let ModuleStatus {
        module,
        version,
        state,
        counters,
        ..
    } = status;
    let reason = status
        .reason
        .as_ref()
        .map_or(String::new(), |reason| format!(" ({reason})"));
    let mut lines = format!("{module} {version} {state:?}{reason}");
    write!(
        lines,
        "\n  in {} out {} batches {} given up {} failures {} refused {}",
        counters.records_in,
        counters.records_out,
        counters.batches,
        counters.given_up,
        counters.failures,
        counters.refused
    )
    .unwrap();
    for task in &status.tasks {
        let owner = task.member.as_deref().unwrap_or("nobody");
        write!(
            lines,
            "\n  task {} {:?} of {owner} attempt {}",
            task.number, task.phase, task.attempt
        )
        .unwrap();
        for input in &task.inputs {
            write!(lines, " {}@{}/{}", input.topic, input.position, input.high_watermark).unwrap();
        }
        if let Some(error) = &task.last_error {
            write!(lines, " last error: {error}").unwrap();
        }
    }
    lines
}

fn deploy(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("name?")?.to_owned();
    let start = args.take_key("start").unwrap_or("earliest").to_owned();
    let input = args.take_key("in").ok_or("in?")?.split(',');
    let input: Vec<_> = input
        .map(|topic| format!(r#"{{"topic":"{topic}","start":"{start}"}}"#))
        .collect();
    let output = args
        .take_key("out")
        .map(|topic| format!(r#","output":[{{"topic":"{topic}"}}]"#));
    let dead_letter = args
        .take_key("dlq")
        .map(|topic| format!(r#","dead-letter":{{"topic":"{topic}"}}"#));
    let members = args.take_key("members").unwrap_or("1").to_owned();
    let version = args.take_key("version").unwrap_or("1.0").to_owned();
    let wait = args.take_key("wait").is_some();
    let more = args.take_key("more").map(|more| format!(",{more}"));
    args.reject_next()?;
    args.reject_next()?;
    let json = format!(
        r#"{{"module":{{"name":"{name}","version":"{version}","members":{members}}},"input":[{}]{}{}{},"state":{{"seen":{{}}}}}}"#,
        input.join(","),
        output.unwrap_or_default(),
        dead_letter.unwrap_or_default(),
        more.unwrap_or_default(),
    );
    let manifest: Manifest = serde_json::from_str(&json)?;
    let mut digest = [0; 32];
    digest[..version.len()].copy_from_slice(version.as_bytes());
    let digest = Digest(digest);
    world.admin(Call::ModuleDeploy {
        manifest: manifest.into(),
        component_bytes: 8,
        digest,
        wait,
    });
    Ok(())
}

fn loaded(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("name?")?.to_owned();
    let result = args.take_key("error").map_or(Ok(()), |error| Err(error.to_owned()));
    args.reject_next()?;
    let version = world
        .broker
        .state()
        .modules
        .get(&name)
        .ok_or("no such module")?
        .version();
    world.broker.handle_loaded(world.now, &version, result);
    world.settle();
    Ok(())
}

fn process(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let count = args.next_pos().map_or(Ok(100), |count| count.parse())?;
    let first = args.take_key("first").map(str::parse).transpose()?;
    let fails = args.take_key("as").map(str::to_owned);
    args.reject_next()?;
    for _ in 0..count {
        if !process_next(world, first, fails.as_deref()) {
            break;
        }
    }
    Ok(())
}

/// Runs the guest once, if anything waits for it.
fn process_next(world: &mut World, first: Option<usize>, fails: Option<&str>) -> bool {
    let Some(run) = world.runs.pop_front() else {
        return false;
    };
    let values: Vec<_> = guest::deliver(&run).0.into_iter().map(|record| record.value).collect();
    let processed = match fails {
        Some(how) => guest::fail(&run, how),
        None => guest::process(&world.store, &run, first),
    };
    let verdict = match &processed.verdict {
        Verdict::Ack => "ack".into(),
        Verdict::Failed { kind, .. } => format!("{kind:?}").to_lowercase(),
        Verdict::Retry { .. } => "retry".into(),
        Verdict::Poison { at, .. } => format!("poison {}", at.offset),
        Verdict::Fatal(_) => "fatal".into(),
    };
    let (module, number) = (&run.task.module, run.task.number);
    world.print(&format!(
        "{module}/{number} attempt {} [{}]: {verdict}",
        run.attempt,
        values.join(" ")
    ));
    world.broker.handle_processed(world.now, processed);
    world.settle();
    true
}

fn lose(world: &mut World, command: &Command) -> Done {
    command.consume_args().reject_next()?;
    world.runs.pop_front().ok_or("nothing runs")?;
    Ok(())
}

fn call(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let module = args.next_pos().map(|name| name.to_owned()).unwrap_or_default();
    let call = match command.name.as_str() {
        "status" => Call::ModuleStatus { module },
        "list" => Call::ModuleList,
        "logs" => Call::ModuleLogs {
            module,
            follow: args.take_key("follow").is_some(),
            tail: args.take_key("tail").map_or(Ok(100), str::parse)?,
        },
        "pause" => Call::ModulePause {
            module,
            reason: args.take_key("reason").map(str::to_owned),
        },
        "resume" => Call::ModuleResume { module },
        _ => Call::ModuleDelete { module },
    };
    args.reject_next()?;
    world.admin(call);
    Ok(())
}

fn state(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("name?")?.to_owned();
    let number = args.next_pos().ok_or("task?")?.parse()?;
    args.reject_next()?;
    let Some(deployment) = world.broker.state().modules.get(&name) else {
        let rows = world
            .store
            .rows
            .keys()
            .filter(|(table, _)| *table == Table::ModuleState)
            .count();
        world.print(&format!("no such module, {rows} rows of state"));
        return Ok(());
    };
    let task = deployment.task_key(number);
    let rows = world
        .store
        .rows
        .iter()
        .filter(|((table, _), _)| *table == Table::ModuleState);
    let counts: Vec<_> = rows
        .filter_map(|((_, row), count)| Some((state_key::decode(&task, "seen", row)?, count)))
        .map(|(key, count)| format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(count)))
        .collect();
    world.print(&format!("{name}/{number}: {}", counts.join(" ")));
    Ok(())
}

fn dead_letters(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let (topic, partition) = place(args.next_pos().ok_or("TOPIC/PARTITION?")?)?;
    args.reject_next()?;
    let (log, _) = world.broker.state().log(&topic, partition).ok_or("no such partition")?;
    let all = LogRead {
        log,
        from: 0,
        until: i64::MAX,
        bytes_max: usize::MAX,
    };
    let records = world.store.read(&all).map_err(|_| "gone")?;
    for batch in batches(&records) {
        for record in batch?.payload(usize::MAX)?.records() {
            let record = record?;
            let mut line = format!(
                "{}: {}",
                record.offset,
                String::from_utf8_lossy(record.value.unwrap_or_default())
            );
            for header in record.headers {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                write!(line, " {}={value}", String::from_utf8_lossy(header.key))?;
            }
            world.print(&line);
        }
    }
    Ok(())
}
