//! Layers: defaults, file, environment, command line; and where each value came from.
use std::path::{Path, PathBuf};

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::Config;

/// Prefix of every environment variable.
const PREFIX: &str = "TIDEMILL_";

/// Variables with this prefix that are not keys of the configuration: they belong to clients, or name the file itself.
const NOT_KEYS: [&str; 6] = [
    "TIDEMILL_CONFIG",
    "TIDEMILL_CA",
    "TIDEMILL_BROKER",
    "TIDEMILL_CERT",
    "TIDEMILL_KEY",
    "TIDEMILL_TIMEOUT",
];

/// A configuration, and how it came about.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Worth a warning: environment variables that look like keys and are none.
    pub warnings: Vec<String>,
    figment: Figment,
}

/// One key, for `config show`.
#[derive(Debug, PartialEq)]
pub struct Setting {
    /// As in the file: `listen.tcp`.
    pub key: String,
    /// As an environment variable: `TIDEMILL_LISTEN_TCP`.
    pub variable: String,
    /// As TOML.
    pub value: String,
    /// As TOML.
    pub default: String,
    /// `default`, the file's path, the variable or `command line`.
    pub origin: String,
}

/// Puts the layers together. `file`: named by the user, so it must exist; otherwise [`config_file`] is read if it is there.
///
/// `overrides` are keys given on the command line. The error is a list of sentences.
pub fn load(file: Option<&Path>, overrides: &[(&str, String)]) -> Result<Loaded, Vec<String>> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(file, variables.collect(), overrides)
}

fn load_from(
    file: Option<&Path>,
    variables: Vec<(String, String)>,
    overrides: &[(&str, String)],
) -> Result<Loaded, Vec<String>> {
    let defaults = defaults();
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file
        .map(Path::to_path_buf)
        .or_else(|| Some(config_file()).filter(|path| path.exists()))
    {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| vec![format!("cannot read the configuration {}: {e}", path.display())])?;
        figment = figment.merge(File { path, text });
    }
    let mut warnings = Vec::new();
    for (name, value) in variables {
        if !name.starts_with(PREFIX) || NOT_KEYS.contains(&name.as_str()) {
            continue;
        }
        match defaults.iter().find(|(key, _)| variable(key) == name) {
            Some((key, default)) => {
                figment = figment.merge(One {
                    key: key.clone(),
                    value: typed(default, &value),
                    origin: name,
                })
            }
            None => warnings.push(format!(
                "{name} is no key of the configuration; `tidemill config show` lists them"
            )),
        }
    }
    for (key, value) in overrides {
        let default = defaults
            .iter()
            .find(|(known, _)| known == key)
            .map_or(
                &Value::Empty(figment::value::Tag::Default, figment::value::Empty::None),
                |(_, v)| v,
            )
            .clone();
        figment = figment.merge(One {
            key: (*key).to_owned(),
            value: typed(&default, value),
            origin: "command line".to_owned(),
        });
    }
    let config: Config = figment
        .extract()
        .map_err(|error| error.into_iter().map(|e| explain(&e)).collect::<Vec<_>>())?;
    let problems = config.problems();
    if problems.is_empty() {
        Ok(Loaded {
            config,
            warnings,
            figment,
        })
    } else {
        Err(problems)
    }
}

impl Loaded {
    /// Every key in the order of its name, with value, default and origin.
    pub fn settings(&self) -> Vec<Setting> {
        let now = leaves(&self.figment);
        let origin = |key: &str| {
            let metadata = self.figment.find_metadata(key);
            metadata.map_or_else(
                || "default".to_owned(),
                |m| {
                    if m.name.starts_with("tidemill") {
                        "default".to_owned()
                    } else {
                        m.name.to_string()
                    }
                },
            )
        };
        defaults()
            .into_iter()
            .map(|(key, default)| {
                let value = now.iter().find(|(k, _)| *k == key).map_or(&default, |(_, v)| v);
                Setting {
                    variable: variable(&key),
                    value: toml_text(value),
                    default: toml_text(&default),
                    origin: origin(&key),
                    key,
                }
            })
            .collect()
    }
}

/// Where the configuration is looked for when nobody names it: `$XDG_CONFIG_HOME/tidemill/tidemill.toml`.
pub fn config_file() -> PathBuf {
    config_home().join("tidemill").join("tidemill.toml")
}

/// `$XDG_CONFIG_HOME`, or `~/.config`.
pub fn config_home() -> PathBuf {
    home("XDG_CONFIG_HOME", ".config")
}

/// `$XDG_DATA_HOME`, or `~/.local/share`.
pub(super) fn data_home() -> PathBuf {
    home("XDG_DATA_HOME", ".local/share")
}

fn home(variable: &str, below: &str) -> PathBuf {
    let set = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    set.unwrap_or_else(|| {
        std::env::home_dir()
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join(below)
    })
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace(['.', '-'], "_").to_ascii_uppercase())
}

fn defaults() -> Vec<(String, Value)> {
    leaves(&Figment::from(Serialized::defaults(Config::default())))
}

fn leaves(figment: &Figment) -> Vec<(String, Value)> {
    fn walk(prefix: &str, dict: &Dict, found: &mut Vec<(String, Value)>) {
        for (name, value) in dict {
            let key = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            match value {
                Value::Dict(_, dict) => walk(&key, dict, found),
                value => found.push((key, value.clone())),
            }
        }
    }
    let mut found = Vec::new();
    if let Ok(data) = figment.data()
        && let Some(dict) = data.get(&Profile::Default)
    {
        walk("", dict, &mut found);
    }
    found.sort_by(|(a, _), (b, _)| (a.contains('.'), a).cmp(&(b.contains('.'), b)));
    found
}

/// Text from outside as the kind of value that the key has by default.
fn typed(default: &Value, text: &str) -> Value {
    match default {
        Value::Bool(..) => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Value::Num(..) => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        Value::Array(..) => Value::from(
            text.split(',')
                .map(str::trim)
                .filter(|s| !s.is_empty())
                .collect::<Vec<_>>(),
        ),
        _ => Value::from(text),
    }
}

fn toml_text(value: &Value) -> String {
    match value {
        Value::String(_, s) => format!("{s:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, b) => b.to_string(),
        Value::Num(_, n) => n
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| n.to_u128().map(|n| n.to_string()))
            .unwrap_or_default(),
        Value::Empty(..) => "(none)".to_owned(),
        Value::Dict(_, dict) => format!("{{ {} keys }}", dict.len()),
        Value::Array(_, items) => format!("[{}]", items.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
    }
}

fn explain(error: &Error) -> String {
    let at = error
        .metadata
        .as_ref()
        .map_or_else(String::new, |m| format!("{}: ", m.name));
    let key = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let key = match error.path.last() {
                None => name.clone(),
                Some(last) if last == name => key,
                Some(_) => format!("{key}.{name}"),
            };
            format!("{at}unknown key {key}; there are {}", known.join(", "))
        }
        Kind::Message(text) if key.is_empty() => format!("{at}{}", text.trim_end()),
        Kind::Message(text) => format!("{at}{key}: {text}"),
        kind if key.is_empty() => format!("{at}{kind}"),
        kind => format!("{at}{key}: {kind}"),
    }
}

/// The file as a layer. Its own name is its origin.
struct File {
    path: PathBuf,
    text: String,
}

impl Provider for File {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.path.display().to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Toml::string(&self.text).data()
    }
}

/// One key as a layer.
struct One {
    key: String,
    value: Value,
    origin: String,
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Serialized::default(&self.key, &self.value).data()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Span;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn set(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn each_layer_covers_the_one_before_and_says_so() {
        let file = file("node-id = 7\n[log]\nlevel = \"debug\"\n[shutdown]\ngrace = \"5s\"\n");
        let path = file.path().display().to_string();
        let loaded = load_from(
            Some(file.path()),
            set("TIDEMILL_LOG_LEVEL", "warn"),
            &[("data-dir", "/x".to_owned())],
        )
        .unwrap();
        assert_eq!(loaded.config.node_id, 7);
        assert_eq!(loaded.config.log.level, "warn");
        assert_eq!(loaded.config.shutdown.grace, Span::secs(5));
        let settings = loaded.settings();
        let origin = |key: &str| {
            settings
                .iter()
                .find(|s| s.key == key)
                .map(|s| s.origin.clone())
                .unwrap()
        };
        assert_eq!(origin("node-id"), path);
        assert_eq!(origin("log.level"), "TIDEMILL_LOG_LEVEL");
        assert_eq!(origin("data-dir"), "command line");
        assert_eq!(origin("listen.tcp"), "default");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let file = file("[listen]\ntpc = \"127.0.0.1:1\"\n");
        let problems = load_from(Some(file.path()), Vec::new(), &[]).unwrap_err();
        assert!(
            problems[0].contains("unknown key listen.tpc; there are tcp, quic"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_wrong_value_names_its_source_and_key() {
        let problems = load_from(Some(file("").path()), set("TIDEMILL_SHUTDOWN_GRACE", "soon"), &[]).unwrap_err();
        assert!(
            problems[0].starts_with("TIDEMILL_SHUTDOWN_GRACE: shutdown.grace: \"soon\" is not a duration"),
            "{problems:?}"
        );
    }

    #[test]
    fn lists_booleans_and_numbers_come_from_the_environment() {
        let variables = [
            ("TIDEMILL_TLS_NAMES", "a.example, 10.0.0.1"),
            ("TIDEMILL_TOPICS_AUTO_CREATE", "false"),
            ("TIDEMILL_TOPICS_PARTITIONS", "9"),
        ];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
        let config = load_from(Some(file("").path()), variables, &[]).unwrap().config;
        assert_eq!(config.tls.names, ["a.example", "10.0.0.1"]);
        assert!(!config.topics.auto_create);
        assert_eq!(config.topics.partitions, 9);
    }

    #[test]
    fn a_variable_that_is_no_key_is_a_warning() {
        let loaded = load_from(Some(file("").path()), set("TIDEMILL_LISTEN_TPC", "x"), &[]).unwrap();
        assert_eq!(loaded.warnings.len(), 1);
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let mut names: Vec<String> = defaults().iter().map(|(key, _)| variable(key)).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !NOT_KEYS.contains(&name.as_str())));
    }
}
