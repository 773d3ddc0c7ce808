//! Bounds and combinations. Every problem names the key and says what would be right.
use super::{Config, Size, Span};

impl Config {
    /// All that is wrong with this configuration, one sentence each; empty when it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_listen(&mut found);
        self.check_tls(&mut found);
        self.check_bounds(&mut found);
        found
    }

    fn check_listen(&self, found: &mut Vec<String>) {
        if let Some(tcp) = self.listen.tcp.0
            && !tcp.ip().is_loopback()
        {
            found.push(format!(
                "listen.tcp = {tcp}: plain TCP is for loopback only, because nothing protects it; use listen.tls (TLS over TCP) or listen.quic there"
            ));
        }
        if self.listen.tcp.0.is_none() && self.listen.quic.0.is_none() && self.listen.tls.0.is_none() {
            found.push("listen: tcp, quic and tls are all off; nobody could connect".to_owned());
        }
        let advertised = &self.listen.advertised;
        if !advertised.is_empty() && split_host_port(advertised).is_none() {
            found.push(format!(
                "listen.advertised = {advertised:?}: write host:port, for example \"broker.example.org:9092\""
            ));
        }
    }

    fn check_tls(&self, found: &mut Vec<String>) {
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            found.push("tls.certificate and tls.key: set both, or neither".to_owned());
        }
        if 64 < self.tls.names.len() {
            found.push("tls.names: at most 64".to_owned());
        }
    }

    fn check_bounds(&self, found: &mut Vec<String>) {
        let mut within = |key: &str, value: u64, low: u64, high: u64, print: &dyn Fn(u64) -> String| {
            if value < low || high < value {
                found.push(format!(
                    "{key} = {}: must be from {} to {}",
                    print(value),
                    print(low),
                    print(high)
                ));
            }
        };
        let (n, size, span) = (&|n: u64| n.to_string(), &|n| Size(n).to_string(), &|n| {
            Span(n).to_string()
        });
        const MIB: u64 = 1 << 20;
        const HOUR: u64 = 3_600_000;
        within(
            "node-id",
            u64::try_from(self.node_id).unwrap_or(u64::MAX),
            0,
            i32::MAX.unsigned_abs().into(),
            n,
        );
        let w = &self.network;
        within("network.threads", w.threads as u64, 1, 64, n);
        within("network.frame-bytes-max", w.frame_bytes_max.0, MIB, 1024 * MIB, size);
        within(
            "network.request-bytes-max",
            w.request_bytes_max.0,
            w.frame_bytes_max.0,
            64 * 1024 * MIB,
            size,
        );
        within("network.requests-max", w.requests_max as u64, 16, 1 << 20, n);
        within("network.connections-max", w.connections_max as u64, 1, 1 << 20, n);
        within("network.idle-timeout", w.idle_timeout.0, 1000, 24 * HOUR, span);
        within("network.quic-idle-timeout", w.quic_idle_timeout.0, 1000, HOUR, span);
        within("network.quic-streams-max", w.quic_streams_max.into(), 1, 1 << 16, n);
        within("network.quic-window", w.quic_window.0, MIB / 4, 1024 * MIB, size);
        within("network.quic-mtu-max", w.quic_mtu_max.into(), 1200, 9000, n);
        let t = &self.topics;
        within("topics.partitions", t.partitions.into(), 1, 1024, n);
        let g = &self.groups;
        within(
            "groups.initial-rebalance-delay",
            g.initial_rebalance_delay.0,
            0,
            HOUR,
            span,
        );
        within(
            "groups.session-timeout-min",
            g.session_timeout_min.0,
            1,
            g.session_timeout_max.0,
            span,
        );
        within(
            "groups.session-timeout-max",
            g.session_timeout_max.0,
            1,
            24 * HOUR,
            span,
        );
        within(
            "groups.consumer-session-timeout",
            g.consumer_session_timeout.0,
            1000,
            24 * HOUR,
            span,
        );
        within(
            "groups.consumer-heartbeat-interval",
            g.consumer_heartbeat_interval.0,
            100,
            g.consumer_session_timeout.0,
            span,
        );
        let s = &self.storage;
        within("storage.segment-bytes", s.segment_bytes.0, MIB, 1024 * 1024 * MIB, size);
        within(
            "storage.tail-bytes-max",
            s.tail_bytes_max.0,
            16 * MIB,
            64 * 1024 * MIB,
            size,
        );
        within("storage.cache-bytes", s.cache_bytes.0, 0, 1024 * 1024 * MIB, size);
        within("storage.reserve-bytes", s.reserve_bytes.0, MIB, 1024 * 1024 * MIB, size);
        let m = &self.modules;
        within("modules.lanes", m.lanes as u64, 0, 1024, n);
        within(
            "modules.component-bytes-max",
            m.component_bytes_max.0,
            1024,
            1024 * MIB,
            size,
        );
        within("modules.compile-timeout", m.compile_timeout.0, 1000, HOUR, span);
        within(
            "modules.compile-memory",
            m.compile_memory.0,
            256 * MIB,
            1024 * 1024 * MIB,
            size,
        );
        within("shutdown.grace", self.shutdown.grace.0, 0, HOUR, span);
    }
}

/// `host:port` or `[v6]:port`.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|p| *p != 0)?;
    (!host.is_empty() && host.len() <= 255).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    #[test]
    fn the_defaults_are_within_bounds() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn plain_tcp_beyond_loopback_is_refused() {
        let mut config = Config::default();
        config.listen.tcp = Address(Some(([0, 0, 0, 0], 9092).into()));
        assert!(config.problems()[0].starts_with("listen.tcp = 0.0.0.0:9092: plain TCP is for loopback only"));
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_its_bounds() {
        let mut config = Config::default();
        config.network.frame_bytes_max = Size(1);
        assert_eq!(
            config.problems()[0],
            "network.frame-bytes-max = 1B: must be from 1MiB to 1GiB"
        );
    }

    #[test]
    fn host_and_port_are_split_at_the_last_colon() {
        assert_eq!(split_host_port("[::1]:9"), Some(("::1", 9)));
        assert_eq!(split_host_port("a.b:9092"), Some(("a.b", 9092)));
        assert_eq!(split_host_port("a.b"), None);
        assert_eq!(split_host_port(":1"), None);
        assert_eq!(split_host_port("a:0"), None);
    }
}
