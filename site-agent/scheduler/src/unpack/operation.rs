//! What the configuration says of one operation: its timeout, and what follows from its failure.

use tierce_cib::nvset::Pairs;
use tierce_cib::rules::{Operation, Situation};
use tierce_cib::values;
use tierce_cib::xml::Element;

use crate::arena::RscIx;
use crate::cluster::Cluster;
use crate::model::{OnFail, OpConfig, Role};

/// Options of one operation after precedence.
#[derive(Debug, Clone)]
pub(crate) struct OpOptions<'a> {
    /// What follows from a failure.
    pub on_fail: OnFail,
    /// Milliseconds.
    pub timeout: u64,
    /// The element, if it is configured.
    pub xml: Option<Element<'a>>,
}

impl<'a> Cluster<'a> {
    /// The configured operation of a name and interval; a disabled one counts only if asked for.
    pub(crate) fn op_config(
        &self,
        rsc: RscIx,
        task: &str,
        interval: u64,
        disabled: bool,
    ) -> Option<&OpConfig<'a>> {
        self.rscs[rsc]
            .ops
            .iter()
            .find(|o| o.name == task && o.interval == interval && (disabled || o.enabled))
    }

    /// The options of an operation.
    pub(crate) fn op_options(&self, rsc: RscIx, task: &str, interval: u64) -> OpOptions<'a> {
        let config = self.op_config(rsc, task, interval, true);
        let probe = task == "monitor" && interval == 0;
        let xml = config.map(|c| c.xml).or_else(|| {
            let ops = &self.rscs[rsc].ops;
            let monitors =
                ops.iter().filter(|o| o.name == "monitor" && o.enabled && o.interval > 0);
            if probe { monitors.min_by_key(|o| o.interval).map(|o| o.xml) } else { None }
        });
        let meta = self.op_meta(rsc, task, interval, if probe { None } else { xml });
        let mut timeout = meta.get("timeout").and_then(values::duration_ms).unwrap_or(20_000);
        if probe
            && meta.get("timeout").is_none()
            && let Some(word) = xml.and_then(|x| x.attr("timeout"))
        {
            timeout = values::duration_ms(word).unwrap_or(20_000);
        }
        let on_fail = self.on_fail(rsc, task, interval, &meta);
        OpOptions { on_fail, timeout, xml: config.map(|c| c.xml) }
    }

    fn op_meta(
        &self,
        rsc: RscIx,
        task: &str,
        interval: u64,
        xml: Option<Element<'a>>,
    ) -> Pairs<'a> {
        let mut meta = Pairs::default();
        let at = Situation {
            agent: Some(self.rscs[rsc].agent()),
            operation: Some(Operation { name: task, interval_ms: interval }),
            ..self.situation()
        };
        if let Some(op) = xml {
            for (name, value) in op.attrs() {
                meta.add_one(name, value);
            }
            meta.add(op.children_named("meta_attributes"), &self.ids, &at);
        }
        if let Some(defaults) = self.op_defaults {
            meta.add(defaults.children_named("meta_attributes"), &self.ids, &at);
        }
        meta
    }

    fn on_fail(&self, rsc: RscIx, task: &str, interval: u64, meta: &Pairs<'a>) -> OnFail {
        let r = &self.rscs[rsc];
        let written = meta.get("on-fail").or_else(|| meta.get("on_fail"));
        let remote = r.remote_node.is_some() && r.agent == "remote";
        let word = match (task, written) {
            ("demote", None) => self.promoted_monitor_on_fail(rsc),
            (_, Some("demote")) if !self.demotable(rsc, task, meta) => None,
            (_, word) => word,
        };
        match word {
            Some("fence") if self.fencing() => return OnFail::Fence,
            Some("fence" | "stop") => return OnFail::Stop,
            Some("block") => return OnFail::Block,
            Some("standby") => return OnFail::Standby,
            Some("ignore" | "nothing") => return OnFail::Ignore,
            Some("migrate") => return OnFail::Ban,
            Some("restart") => return OnFail::Restart,
            Some("restart-container") => {
                return if r.container.is_some() {
                    OnFail::RestartContainer
                } else {
                    OnFail::Restart
                };
            }
            Some("demote") => return OnFail::Demote,
            _ => {}
        }
        if remote
            && task != "stop"
            && !(task == "monitor" && interval == 0)
            && r.container.is_none()
        {
            return if task == "start" { OnFail::Restart } else { OnFail::ResetRemote };
        }
        match task {
            _ if r.container.is_some() && task != "start" => OnFail::RestartContainer,
            "stop" if self.fencing() => OnFail::Fence,
            "stop" => OnFail::Block,
            _ => OnFail::Restart,
        }
    }

    /// `on-fail="demote"` is for promote, and for recurring monitors of the promoted role.
    fn demotable(&self, rsc: RscIx, task: &str, meta: &Pairs<'a>) -> bool {
        if !self.promotable(rsc) {
            return false;
        }
        task == "promote"
            || (task == "monitor"
                && meta.get("role").and_then(Role::parse) == Some(Role::Promoted)
                && meta.get("interval").and_then(values::duration_ms).unwrap_or(0) > 0)
    }

    fn promoted_monitor_on_fail(&self, rsc: RscIx) -> Option<&'a str> {
        self.rscs[rsc]
            .ops
            .iter()
            .filter(|o| {
                o.name == "monitor" && o.enabled && o.interval > 0 && o.role == Some(Role::Promoted)
            })
            .find_map(|o| super::resources::op_word(self, o.xml, "on-fail"))
            .filter(|w| *w != "demote")
    }
}
