//! Which program an action is, and in which environment it runs.
//!
//! The environment is made from nothing: an agent behaves the same whether our process was
//! started by an init system, a shell or a test. Names are those of the OCF resource agent API.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::unistd::setsid;

use crate::outcome::{Outcome, Status};
use crate::settings::Settings;
use crate::spec::{Action, Class, Context, ResourceSpec};

/// How an exit code is read.
pub(crate) type ReadCode = fn(i32) -> Status;

/// The program for an action, or the outcome when there is none.
pub(crate) fn build(
    settings: &Settings,
    spec: &ResourceSpec,
    action: Action,
    context: &Context,
) -> Result<(Command, ReadCode), Box<Outcome>> {
    let (mut command, read) = match &spec.agent.class {
        Class::Ocf { provider } => ocf(settings, spec, provider, action, context),
        Class::Lsb | Class::Service | Class::Systemd => init_script(settings, spec, action)?,
    };
    command.envs(&context.env);
    separate(&mut command, settings).map_err(|e| Box::new(no_netns(settings, &e)))?;
    Ok((command, read))
}

fn ocf(
    settings: &Settings,
    spec: &ResourceSpec,
    provider: &str,
    action: Action,
    context: &Context,
) -> (Command, ReadCode) {
    let path = settings.ocf_root.join("resource.d").join(provider);
    let mut command = Command::new(path.join(&spec.agent.agent_type));
    command.arg(action.word());
    clean(&mut command, settings);
    ocf_environment(&mut command, settings, spec, provider, action, context);
    (command, Status::from_ocf)
}

/// On Debian the script itself may hand over to systemd, which is right: what it starts then lives
/// in a unit of its own.
fn init_script(
    settings: &Settings,
    spec: &ResourceSpec,
    action: Action,
) -> Result<(Command, ReadCode), Box<Outcome>> {
    let (word, read): (_, ReadCode) = match action {
        Action::Start | Action::Stop => (action.word(), Status::from_lsb_action),
        Action::Monitor => ("status", Status::from_lsb_status),
        Action::ValidateAll | Action::MetaData => {
            let reason = format!("init scripts have no {action}");
            return Err(Box::new(Outcome::told(Status::Unimplemented, reason)));
        }
    };
    let mut command = Command::new(settings.lsb_dir.join(&spec.agent.agent_type));
    command.arg(word);
    clean(&mut command, settings);
    Ok((command, read))
}

fn clean(command: &mut Command, settings: &Settings) {
    command
        .env_clear()
        .env("PATH", &settings.path)
        .env("LC_ALL", "C")
        .env("HOME", "/root")
        .env("SHELL", "/bin/sh")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

fn ocf_environment(
    command: &mut Command,
    settings: &Settings,
    spec: &ResourceSpec,
    provider: &str,
    action: Action,
    context: &Context,
) {
    let timeout = context.timeout.unwrap_or_else(|| spec.timeout(action));
    let recurring = action == Action::Monitor && !context.probe;
    let interval = if recurring { spec.monitor_interval.as_millis() } else { 0 };
    command
        .env("OCF_ROOT", &settings.ocf_root)
        .env("OCF_RA_VERSION_MAJOR", "1")
        .env("OCF_RA_VERSION_MINOR", "1")
        .env("OCF_RESOURCE_INSTANCE", &spec.id)
        .env("OCF_RESOURCE_TYPE", &spec.agent.agent_type)
        .env("OCF_RESOURCE_PROVIDER", provider)
        .env("OCF_CHECK_LEVEL", context.check_level.unwrap_or(0).to_string())
        .env("HA_RSCTMP", &settings.rsctmp)
        .env("OCF_RESKEY_CRM_meta_name", action.word())
        .env("OCF_RESKEY_CRM_meta_timeout", timeout.as_millis().to_string())
        .env("OCF_RESKEY_CRM_meta_interval", interval.to_string())
        .env("OCF_RESKEY_CRM_meta_on_node", &settings.node);
    for (name, value) in &spec.params {
        command.env(format!("OCF_RESKEY_{name}"), value);
    }
}

/// Gives the action a session of its own, so that all its processes can be signalled at once,
/// and puts it into the network namespace, if one is set.
fn separate(command: &mut Command, settings: &Settings) -> std::io::Result<()> {
    let netns = settings.enter_netns.as_ref().map(std::fs::File::open).transpose()?;
    // SAFETY: runs in the child between fork and exec; both calls are plain system calls that
    // neither allocate nor take locks, and the file is owned by the closure.
    unsafe {
        command.pre_exec(move || {
            if let Some(netns) = &netns {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
            }
            setsid()?;
            Ok(())
        });
    }
    Ok(())
}

fn no_netns(settings: &Settings, error: &std::io::Error) -> Outcome {
    let path = settings.enter_netns.clone().unwrap_or_default();
    let reason = format!("cannot open network namespace {}: {error}", path.display());
    Outcome::told(Status::Error, reason)
}
