//! What is to be run: the agent, its parameters, the action.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::limits::{DEFAULT_TIMEOUT, MAX_NAME_BYTES, MAX_PARAMETERS};
use crate::{Error, Result};

/// The family of a resource agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Class {
    /// Open Cluster Framework agent of that provider.
    Ocf {
        /// The folder beneath `resource.d`.
        provider: String,
    },
    /// Init script.
    Lsb,
    /// Systemd unit.
    Systemd,
    /// Init script of that name if there is one, else systemd unit.
    Service,
}

/// An agent's full name, as in `ocf:heartbeat:IPaddr2`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentName {
    /// The family.
    pub class: Class,
    /// The agent, script or unit.
    pub agent_type: String,
}

impl FromStr for AgentName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::AgentName { found: text.to_owned() };
        let (class, rest) = text.split_once(':').ok_or_else(refuse)?;
        let (class, agent_type) = match class {
            "ocf" => {
                let (provider, agent_type) = rest.split_once(':').ok_or_else(refuse)?;
                check_file_name("provider", provider)?;
                (Class::Ocf { provider: provider.to_owned() }, agent_type)
            }
            "lsb" => (Class::Lsb, rest),
            "systemd" => (Class::Systemd, rest),
            "service" => (Class::Service, rest),
            _ => return Err(refuse()),
        };
        check_file_name("agent", agent_type)?;
        Ok(Self { class, agent_type: agent_type.to_owned() })
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.class {
            Class::Ocf { provider } => write!(f, "ocf:{provider}:{}", self.agent_type),
            Class::Lsb => write!(f, "lsb:{}", self.agent_type),
            Class::Systemd => write!(f, "systemd:{}", self.agent_type),
            Class::Service => write!(f, "service:{}", self.agent_type),
        }
    }
}

/// Longest time each action may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Of a start.
    pub start: Duration,
    /// Of a stop.
    pub stop: Duration,
    /// Of a monitor, and of everything else.
    pub monitor: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { start: DEFAULT_TIMEOUT, stop: DEFAULT_TIMEOUT, monitor: DEFAULT_TIMEOUT }
    }
}

/// A resource as the executor needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceSpec {
    /// The resource's id, unique on this node.
    pub id: String,
    /// Its agent.
    pub agent: AgentName,
    /// Parameters for the agent (OCF only).
    pub params: BTreeMap<String, String>,
    /// Longest time each action may take.
    pub timeouts: Timeouts,
    /// Time between two recurring monitors.
    pub monitor_interval: Duration,
}

impl ResourceSpec {
    /// A resource without parameters and with the default timeouts.
    pub fn new(id: impl Into<String>, agent: &str) -> Result<Self> {
        let this = Self {
            id: id.into(),
            agent: agent.parse()?,
            params: BTreeMap::new(),
            timeouts: Timeouts::default(),
            monitor_interval: Duration::from_secs(10),
        };
        this.check()?;
        Ok(this)
    }

    /// The same with one more parameter.
    #[must_use]
    pub fn with_param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.insert(name.into(), value.into());
        self
    }

    /// Whether all names can be used in a path and in an environment. `run` checks it, too.
    pub fn check(&self) -> Result<()> {
        check_file_name("resource id", &self.id)?;
        check_file_name("agent", &self.agent.agent_type)?;
        if let Class::Ocf { provider } = &self.agent.class {
            check_file_name("provider", provider)?;
        }
        if self.params.len() > MAX_PARAMETERS {
            return Err(Error::Setting {
                what: "number of parameters",
                found: self.params.len().to_string(),
                allowed: format!("up to {MAX_PARAMETERS}"),
            });
        }
        for (name, value) in &self.params {
            check_variable("parameter", name, value)?;
        }
        Ok(())
    }

    pub(crate) fn timeout(&self, action: Action) -> Duration {
        match action {
            Action::Start => self.timeouts.start,
            Action::Stop => self.timeouts.stop,
            Action::Monitor | Action::ValidateAll | Action::MetaData => self.timeouts.monitor,
        }
    }
}

/// What an agent is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Bring the resource up.
    Start,
    /// Bring it down.
    Stop,
    /// Say whether it runs.
    Monitor,
    /// Say whether the parameters make sense.
    ValidateAll,
    /// Describe the agent.
    MetaData,
}

impl Action {
    /// The word agents know it by.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Monitor => "monitor",
            Self::ValidateAll => "validate-all",
            Self::MetaData => "meta-data",
        }
    }

    /// Asks only: may be interrupted for a stop, and leaves nothing running.
    pub const fn only_asks(self) -> bool {
        !matches!(self, Self::Start | Self::Stop)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What belongs to one run of an action rather than to the resource.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Further environment, such as `TIERCE_TICKET` and `TIERCE_TERM`.
    pub env: BTreeMap<String, String>,
    /// Depth of a monitor (`OCF_CHECK_LEVEL`).
    pub check_level: Option<u32>,
    /// The monitor is a probe: asked before anything was started here.
    pub probe: bool,
    /// Instead of the resource's own timeout.
    pub timeout: Option<Duration>,
}

impl Context {
    pub(crate) fn check(&self) -> Result<()> {
        self.env.iter().try_for_each(|(name, value)| check_variable("variable", name, value))
    }
}

/// Names become parts of paths and environments: nothing that could leave the folder.
fn check_file_name(what: &'static str, name: &str) -> Result<()> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '\\');
    let unit_colon = what == "resource id"; // clone instances are named "id:0"
    let all_safe = name.chars().all(|c| safe(c) || (unit_colon && c == ':'));
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.starts_with('.') || !all_safe {
        return Err(Error::Name {
            what,
            found: name.to_owned(),
            hint: "use letters, digits and . _ - @, no dot first",
        });
    }
    Ok(())
}

fn check_variable(what: &'static str, name: &str, value: &str) -> Result<()> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(safe) {
        let hint = "use letters, digits and . _ -";
        return Err(Error::Name { what, found: name.to_owned(), hint });
    }
    if value.contains('\0') {
        let hint = "its value may not contain a zero byte";
        return Err(Error::Name { what, found: name.to_owned(), hint });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_names_are_read_and_printed_alike() {
        for name in ["ocf:heartbeat:Dummy", "lsb:foo", "systemd:foo@1.service", "service:foo"] {
            assert_eq!(name.parse::<AgentName>().unwrap().to_string(), name);
        }
        let dummy: AgentName = "ocf:heartbeat:Dummy".parse().unwrap();
        assert_eq!(dummy.class, Class::Ocf { provider: "heartbeat".into() });
    }

    #[test]
    fn names_that_would_leave_the_folder_or_mean_nothing_are_refused() {
        for name in [
            "",
            "Dummy",
            "ocf:Dummy",
            "ocf::Dummy",
            "ocf:heartbeat:",
            "lsb:",
            "lsb:../sh",
            "ocf:..:Dummy",
            "ocf:a/b:Dummy",
            "lsb:a b",
            "upstart:x",
            "stonith:x",
            "lsb:x:y",
        ] {
            assert!(name.parse::<AgentName>().is_err(), "{name:?} was taken");
        }
        assert!(ResourceSpec::new("a/b", "lsb:x").is_err());
        let spec = ResourceSpec::new("web:0", "lsb:x").unwrap();
        assert!(spec.clone().with_param("ip=", "x").check().is_err());
        assert!(spec.clone().with_param("ip", "a\0b").check().is_err());
        assert!(spec.with_param("ip", "a b=c\n").check().is_ok());
    }
}
