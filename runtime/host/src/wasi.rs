//! What components import of WASI 0.2 (Rust's `wasm32-wasip2`, and the engines that JavaScript and Python bring along), harmless: an empty
//! environment, a closed standard input, output to the log, no files, no network, the batch's clock, random numbers from a seed. Nothing
//! ambient, so a batch run again gives the same answer.
//!
//! A component names the version of WASI that its toolchain had; each import is therefore linked under the very name that it has. What
//! is in an offered interface but makes no sense here (opening a file) traps when it is called.
use wasmtime::{
    StoreContextMut, bail,
    component::{
        ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType, Val,
        types::{self, ComponentItem},
    },
};

use crate::call::{Guest, Stop};

/// Interfaces that are offered.
pub(crate) const INTERFACES: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    // Python's standard library imports all of it, used or not. Whoever asks for a socket is denied.
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Bytes of random numbers in one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Bytes that one write takes.
const WRITE_BYTES_MAX: u64 = 64 << 10;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

struct InputStream;
struct OutputStream;
struct IoError;
struct Pollable;
struct Descriptor;
struct DirectoryEntryStream;
struct TerminalInput;
struct TerminalOutput;
/// Everything of `wasi:sockets`: none of it is ever made, but for the network, which denies everything.
struct Socket;

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code, reason = "the interface has this case; nothing here fails")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Written = (Result<(), StreamError>,);
type Store<'a> = StoreContextMut<'a, Guest>;

/// Links every import of WASI that the component has.
pub(crate) fn link(linker: &mut Linker<Guest>, component: &types::Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (name, import) in component.imports(&engine) {
        let (interface, _) = name.split_once('@').unwrap_or((name, ""));
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        if !INTERFACES.contains(&interface) {
            continue;
        }
        let mut offered = linker.instance(name)?;
        for (item, export) in instance.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => function(&mut offered, interface, item)?,
                ComponentItem::Resource(_) => resource(&mut offered, item)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn resource(offered: &mut LinkerInstance<'_, Guest>, name: &str) -> wasmtime::Result<()> {
    let ty = match name {
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "error" => ResourceType::host::<IoError>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "descriptor" => ResourceType::host::<Descriptor>(),
        "directory-entry-stream" => ResourceType::host::<DirectoryEntryStream>(),
        "terminal-input" => ResourceType::host::<TerminalInput>(),
        "terminal-output" => ResourceType::host::<TerminalOutput>(),
        "network"
        | "tcp-socket"
        | "udp-socket"
        | "incoming-datagram-stream"
        | "outgoing-datagram-stream"
        | "resolve-address-stream" => ResourceType::host::<Socket>(),
        _ => bail!("unknown resource `{name}`"),
    };
    offered.resource(name, ty, |_, _| Ok(()))
}

fn function(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    match interface.strip_prefix("wasi:").unwrap_or(interface) {
        "cli/environment" | "cli/exit" | "cli/stdin" | "cli/stdout" | "cli/stderr" => process(offered, interface, name),
        "cli/terminal-stdin" => offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((None::<Resource<TerminalInput>>,))),
        "cli/terminal-stdout" | "cli/terminal-stderr" => {
            offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((None::<Resource<TerminalOutput>>,)))
        }
        "clocks/monotonic-clock" | "clocks/wall-clock" => clock(offered, interface, name),
        "filesystem/preopens" => offered.func_wrap(name, |_: Store<'_>, (): ()| {
            Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
        }),
        "io/poll" => poll(offered, interface, name),
        "io/streams" => stream(offered, interface, name),
        "random/random" | "random/insecure" | "random/insecure-seed" => random(offered, interface, name),
        "sockets/instance-network" => {
            offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((Resource::<Socket>::new_own(0),)))
        }
        "sockets/ip-name-lookup" | "sockets/tcp-create-socket" | "sockets/udp-create-socket" => {
            no_network(offered, interface, name)
        }
        _ => trap(offered, interface, name),
    }
}

fn trap(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let full_name = format!("{interface}#{name}");
    offered.func_new(name, move |_, _, _, _| bail!("`{full_name}` is not there for a module"))
}

/// Answers `access-denied` to whoever asks for a socket or a name, and says so in the log.
fn no_network(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let full_name = format!("{interface}#{name}");
    if name.contains("resolve-address-stream.") {
        return trap(offered, interface, name);
    }
    offered.func_new(name, move |mut store, _, _, results| {
        let call = store.data_mut().call();
        call.notice(format!("`{full_name}` is denied: a module has no network"));
        results[0] = Val::Result(Err(Some(Box::new(Val::Enum("access-denied".into())))));
        Ok(())
    })
}

fn process(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    match name {
        "get-environment" => offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((Vec::<(String, String)>::new(),))),
        "get-arguments" => offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((Vec::<String>::new(),))),
        "initial-cwd" => offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((None::<String>,))),
        "exit" => offered.func_wrap(name, |_: Store<'_>, (_status,): (Result<(), ()>,)| {
            Err::<(), _>(Stop::Exit.into())
        }),
        "exit-with-code" => offered.func_wrap(name, |_: Store<'_>, (_code,): (u8,)| Err::<(), _>(Stop::Exit.into())),
        "get-stdin" => offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((Resource::<InputStream>::new_own(0),))),
        "get-stdout" => offered.func_wrap(name, |_: Store<'_>, (): ()| {
            Ok((Resource::<OutputStream>::new_own(STDOUT),))
        }),
        "get-stderr" => offered.func_wrap(name, |_: Store<'_>, (): ()| {
            Ok((Resource::<OutputStream>::new_own(STDERR),))
        }),
        _ => trap(offered, interface, name),
    }
}

fn clock(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    match (interface, name) {
        // It never stands still and never depends on the machine: a microsecond for each look.
        ("wasi:clocks/monotonic-clock", "now") => offered.func_wrap(name, |mut store: Store<'_>, (): ()| {
            let call = store.data_mut().call();
            call.waited_ns = call.waited_ns.saturating_add(1_000);
            Ok((u64::try_from(call.run.now)
                .unwrap_or(0)
                .saturating_mul(1_000_000)
                .saturating_add(call.waited_ns),))
        }),
        ("wasi:clocks/wall-clock", "now") => offered.func_wrap(name, |mut store: Store<'_>, (): ()| {
            let now = u64::try_from(store.data_mut().call().run.now).unwrap_or(0);
            let nanoseconds = u32::try_from(now % 1_000 * 1_000_000).unwrap_or(0);
            Ok((Datetime {
                seconds: now / 1_000,
                nanoseconds,
            },))
        }),
        ("wasi:clocks/monotonic-clock", "resolution") => {
            offered.func_wrap(name, |_: Store<'_>, (): ()| Ok((1_000_u64,)))
        }
        ("wasi:clocks/wall-clock", "resolution") => offered.func_wrap(name, |_: Store<'_>, (): ()| {
            Ok((Datetime {
                seconds: 0,
                nanoseconds: 1_000_000,
            },))
        }),
        // Nobody sleeps here: the time has passed at once.
        (_, "subscribe-duration") => offered.func_wrap(name, |mut store: Store<'_>, (duration,): (u64,)| {
            let call = store.data_mut().call();
            call.waited_ns = call.waited_ns.saturating_add(duration);
            Ok((Resource::<Pollable>::new_own(0),))
        }),
        (_, "subscribe-instant") => offered.func_wrap(name, |mut store: Store<'_>, (instant,): (u64,)| {
            let call = store.data_mut().call();
            let begin = u64::try_from(call.run.now).unwrap_or(0).saturating_mul(1_000_000);
            call.waited_ns = call.waited_ns.max(instant.saturating_sub(begin));
            Ok((Resource::<Pollable>::new_own(0),))
        }),
        _ => trap(offered, interface, name),
    }
}

fn poll(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    match name {
        "[method]pollable.ready" => offered.func_wrap(name, |_: Store<'_>, (_one,): (Resource<Pollable>,)| Ok((true,))),
        "[method]pollable.block" => offered.func_wrap(name, |_: Store<'_>, (_one,): (Resource<Pollable>,)| Ok(())),
        "poll" => offered.func_wrap(name, |_: Store<'_>, (all,): (Vec<Resource<Pollable>>,)| {
            Ok(((0..u32::try_from(all.len())?).collect::<Vec<u32>>(),))
        }),
        _ => trap(offered, interface, name),
    }
}

fn stream(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    match name {
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            offered.func_wrap(name, |_: Store<'_>, (_stdin, _length): (Resource<InputStream>, u64)| {
                Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
            })
        }
        "[method]input-stream.subscribe" => offered
            .func_wrap(name, |_: Store<'_>, (_stdin,): (Resource<InputStream>,)| {
                Ok((Resource::<Pollable>::new_own(0),))
            }),
        "[method]output-stream.subscribe" => offered
            .func_wrap(name, |_: Store<'_>, (_out,): (Resource<OutputStream>,)| {
                Ok((Resource::<Pollable>::new_own(0),))
            }),
        "[method]output-stream.check-write" => offered
            .func_wrap(name, |_: Store<'_>, (_out,): (Resource<OutputStream>,)| {
                Ok((Ok::<_, StreamError>(WRITE_BYTES_MAX),))
            }),
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => offered.func_wrap(
            name,
            |mut store: Store<'_>, (out, bytes): (Resource<OutputStream>, Vec<u8>)| {
                write(store.data_mut(), out.rep(), &bytes);
                Ok::<Written, _>((Ok(()),))
            },
        ),
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => offered
            .func_wrap(name, |_: Store<'_>, (_out,): (Resource<OutputStream>,)| {
                Ok::<Written, _>((Ok(()),))
            }),
        _ => trap(offered, interface, name),
    }
}

fn random(offered: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> wasmtime::Result<()> {
    match name {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            offered.func_wrap(name, |mut store: Store<'_>, (length,): (u64,)| {
                if RANDOM_BYTES_MAX < length {
                    return Err(Stop::Limit(format!(
                        "more than {RANDOM_BYTES_MAX} random bytes in one call (a bound of the host)"
                    ))
                    .into());
                }
                let call = store.data_mut().call();
                let words = std::iter::repeat_with(|| next_random(&mut call.random).to_le_bytes()).flatten();
                Ok((words.take(usize::try_from(length)?).collect::<Vec<u8>>(),))
            })
        }
        "get-random-u64" | "get-insecure-random-u64" => offered.func_wrap(name, |mut store: Store<'_>, (): ()| {
            Ok((next_random(&mut store.data_mut().call().random),))
        }),
        // Seeds the guest's hash maps, once in an instance's life: it must not depend on the batch that the instance happens to begin with.
        "insecure-seed" => offered.func_wrap(name, |mut store: Store<'_>, (): ()| {
            let mut seed = task_seed(&store.data_mut().call().run.task);
            Ok(((next_random(&mut seed), next_random(&mut seed)),))
        }),
        _ => trap(offered, interface, name),
    }
}

/// A seed that is the same for a task on every node and in every run.
pub(crate) fn task_seed(task: &tidemill_broker::module::run::TaskKey) -> u64 {
    let start = task.deployment ^ (u64::from(task.number) << 32);
    text_seed(start, &task.module)
}

/// A seed that is the same for a text, beginning with another one.
pub(crate) fn text_seed(start: u64, text: &str) -> u64 {
    text.bytes().fold(start, |seed, byte| {
        let mut seed = seed ^ u64::from(byte);
        next_random(&mut seed)
    })
}

/// SplitMix64.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Standard output and error of a guest, up to the last line that is not ended yet.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn write(guest: &mut Guest, stream: u32, bytes: &[u8]) {
    let buffer = if stream == STDERR {
        &mut guest.streams.stderr
    } else {
        &mut guest.streams.stdout
    };
    buffer.extend_from_slice(bytes);
    let end = match buffer.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if crate::limits::LOG_LINE_BYTES_MAX < buffer.len() => buffer.len(),
        None => return,
    };
    let lines: Vec<u8> = buffer.drain(..end).collect();
    log(guest, stream, &lines);
}

/// Logs what has no end of line yet.
pub(crate) fn flush(guest: &mut Guest) {
    for stream in [STDOUT, STDERR] {
        let buffer = if stream == STDERR {
            &mut guest.streams.stderr
        } else {
            &mut guest.streams.stdout
        };
        let rest = std::mem::take(buffer);
        log(guest, stream, &rest);
    }
}

fn log(guest: &mut Guest, stream: u32, bytes: &[u8]) {
    let level = if stream == STDERR { "error" } else { "info" };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        guest.call().log(level, &String::from_utf8_lossy(line));
    }
}
