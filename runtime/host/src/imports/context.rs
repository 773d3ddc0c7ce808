//! `context`, `config`, `logging`, `metrics`: what the guest may know about its call, and what it may say about it.
use tidemill_broker::module::run::Metric;

use crate::{
    bindings::tidemill::processor::{config, context, logging, metrics, types},
    call::Guest,
    log::cut,
};

impl types::Host for Guest {}

impl context::Host for Guest {
    fn current_task(&mut self) -> wasmtime::Result<types::Task> {
        let call = self.call();
        call.has_state()?;
        let run = &call.run;
        Ok(types::Task {
            deployment: run.task.module.clone(),
            version: run.version.label.clone(),
            number: run.task.number,
            generation: run.generation,
        })
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.call().run.attempt)
    }

    fn watermark(&mut self) -> wasmtime::Result<Option<i64>> {
        Ok(self.call().run.event_time.and_then(|event_time| event_time.watermark))
    }

    fn now(&mut self) -> wasmtime::Result<i64> {
        Ok(self.call().run.now)
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.call().remaining().as_millis()).unwrap_or(u32::MAX))
    }

    fn mark(&mut self, index: u32) -> wasmtime::Result<()> {
        self.call().mark = Some(index);
        Ok(())
    }
}

impl config::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.call().run.config.get(&key).cloned())
    }

    fn get_all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self
            .call()
            .run
            .config
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn get_secret(&mut self, _name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        // No manifest can grant one yet.
        Ok(None)
    }
}

impl logging::Host for Guest {
    fn log(&mut self, level: logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Trace => "trace",
            logging::Level::Debug => "debug",
            logging::Level::Info => "info",
            logging::Level::Warn => "warn",
            logging::Level::Error => "error",
            logging::Level::Critical => "critical",
        };
        if context.is_empty() {
            self.call().log(level, &message);
        } else {
            self.call().log(level, &format!("{context}: {message}"));
        }
        Ok(())
    }
}

impl metrics::Host for Guest {
    fn counter_add(&mut self, name: String, delta: u64) -> wasmtime::Result<()> {
        self.measure("counters", Metric::Counter(name, delta));
        Ok(())
    }

    fn gauge_set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.measure("gauges", Metric::Gauge(name, value));
        Ok(())
    }

    fn histogram_record(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.measure("histograms", Metric::Histogram(name, value));
        Ok(())
    }
}

impl Guest {
    fn measure(&mut self, kind: &str, metric: Metric) {
        let (Metric::Counter(name, _) | Metric::Gauge(name, _) | Metric::Histogram(name, _)) = &metric;
        let name = cut(name, 100);
        if !self.call().metrics.add(metric) {
            self.call().notice(format!(
                "metric `{name}` is not declared: add it to `metrics.{kind}` in the manifest"
            ));
        }
    }
}
