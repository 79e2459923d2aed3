//! The container of a replica: its parameters are the command line of docker or podman.

use tierce_cib::xml::Element;

use super::Implied;

/// Where the remote executor in a container listens, if nothing else is said.
const PORT: &str = "3121";
/// What runs in a container with a resource inside, if nothing else is said.
const REMOTE_EXECUTOR: &str = "/usr/sbin/pacemaker-remoted";
/// The key by which a connection is authenticated.
const KEY: &str = "/etc/pacemaker/authkey";
/// The folder with the logs of containers.
const LOGS: &str = "/var/log/pacemaker/bundles";

/// A folder or file that the container sees.
struct Mount {
    source: String,
    /// The source is a folder with a part for each replica.
    per_replica: bool,
    target: String,
    options: Option<String>,
}

/// What is the same for all replicas.
pub(super) struct Container {
    engine: String,
    image: String,
    network: Option<String>,
    options: Option<String>,
    command: Option<String>,
    control_port: Option<String>,
    add_host: bool,
    mounts: Vec<Mount>,
    /// Outside, inside.
    ports: Vec<(String, String)>,
}

/// One replica.
pub(super) struct Replica<'r> {
    pub bundle: &'r str,
    pub number: u32,
    pub name: &'r str,
    pub address: Option<String>,
    /// Names and addresses of all.
    pub hosts: &'r [(String, String)],
}

impl Container {
    pub(super) fn read(
        bundle: Element<'_>,
        engine: Element<'_>,
        control_port: Option<String>,
        inner: bool,
    ) -> Self {
        let word = |name: &str| engine.attr(name).map(str::to_owned);
        let own = |e: Element<'_>, name: &str| e.attr(name).map(str::to_owned);
        let mut mounts: Vec<Mount> = bundle
            .children_named("storage")
            .flat_map(|s| s.children_named("storage-mapping"))
            .map(|m| Mount {
                per_replica: m.attr("source-dir").is_none(),
                source: own(m, "source-dir")
                    .or_else(|| own(m, "source-dir-root"))
                    .unwrap_or_default(),
                target: own(m, "target-dir").unwrap_or_default(),
                options: own(m, "options"),
            })
            .collect();
        let network = bundle.child("network");
        let mut ports: Vec<(String, String)> = network
            .iter()
            .flat_map(|n| n.children_named("port-mapping"))
            .filter_map(|m| {
                let outside = own(m, "port").or_else(|| own(m, "range"))?;
                let inside = own(m, "internal-port").unwrap_or_else(|| outside.clone());
                Some((outside, inside))
            })
            .collect();
        if inner {
            let mount = |source: &str, per_replica: bool, target: &str| Mount {
                source: source.to_owned(),
                per_replica,
                target: target.to_owned(),
                options: None,
            };
            mounts.push(mount(KEY, false, KEY));
            mounts.push(mount(LOGS, true, "/var/log"));
            let port = control_port.clone().unwrap_or_else(|| PORT.to_owned());
            ports.push((port.clone(), port));
        }
        let default_command = inner.then(|| REMOTE_EXECUTOR.to_owned());
        let add_host =
            network.and_then(|n| n.attr("add-host")).and_then(tierce_cib::values::boolean);
        Self {
            engine: engine.name().to_owned(),
            image: word("image").unwrap_or_default(),
            network: word("network"),
            options: word("options"),
            command: word("run-command").or(default_command),
            control_port,
            add_host: add_host != Some(false),
            mounts,
            ports,
        }
    }

    fn port(&self) -> &str {
        self.control_port.as_deref().unwrap_or(PORT)
    }

    /// The resource that is the container.
    pub(super) fn primitive(&self, replica: &Replica<'_>) -> Implied {
        let (options, mount_points) = self.command_line(replica);
        let mut parameters = vec![
            ("image", self.image.clone()),
            ("allow_pull", "true".to_owned()),
            ("force_kill", "false".to_owned()),
            ("reuse", "false".to_owned()),
            ("run_opts", options),
            ("mount_points", mount_points),
            ("monitor_cmd", "/bin/true".to_owned()),
        ];
        parameters.extend(self.command.clone().map(|c| ("run_cmd", c)));
        Implied {
            id: format!("{}-{}-{}", replica.bundle, self.engine, replica.number),
            provider: "heartbeat",
            agent: self.engine.clone(),
            parameters,
            meta: Vec::new(),
            operations: vec![("monitor", "60s".to_owned(), None)],
        }
    }

    fn command_line(&self, replica: &Replica<'_>) -> (String, String) {
        let on_host_network = self.network.as_deref() == Some("host");
        let mut line = String::new();
        let mut add = |part: String| {
            line.push(' ');
            line.push_str(&part);
        };
        if self.engine == "docker" {
            add("--restart=no".to_owned());
        }
        if replica.address.is_some() && !on_host_network {
            add(format!("-h {}", replica.name));
        }
        add("-e PCMK_stderr=1".to_owned());
        if let Some(network) = &self.network {
            add(format!("--net={network}"));
        }
        add(format!("-e PCMK_remote_port={}", self.port()));
        let mut mount_points = Vec::new();
        for mount in &self.mounts {
            let source = if mount.per_replica {
                let source = format!("{}/{}", mount.source, replica.name);
                mount_points.push(source.clone());
                source
            } else {
                mount.source.clone()
            };
            let options = mount.options.as_ref().map_or(String::new(), |o| format!(":{o}"));
            add(format!("-v {source}:{}{options}", mount.target));
        }
        for (outside, inside) in &self.ports {
            match &replica.address {
                Some(address) => add(format!("-p {address}:{outside}:{inside}")),
                None if !on_host_network => add(format!("-p {outside}:{inside}")),
                None => {}
            }
        }
        if let Some(options) = &self.options {
            add(options.clone());
        }
        add(String::new());
        if self.add_host {
            for (name, address) in replica.hosts {
                add(format!("--add-host={name}:{address}"));
            }
        }
        (line, mount_points.join(","))
    }

    /// The address of a replica.
    pub(super) fn address(
        bundle: &str,
        address: &str,
        interface: Option<&str>,
        netmask: Option<&str>,
    ) -> Implied {
        let mut parameters = vec![("ip", address.to_owned())];
        parameters.extend(interface.map(|i| ("nic", i.to_owned())));
        parameters.push(("cidr_netmask", netmask.unwrap_or("32").to_owned()));
        Implied {
            id: format!("{bundle}-ip-{address}"),
            provider: "heartbeat",
            agent: "IPaddr2".to_owned(),
            parameters,
            meta: Vec::new(),
            operations: vec![("monitor", "60s".to_owned(), None)],
        }
    }

    /// The connection to the remote executor of a replica. Without an address of its own it is where the container runs.
    pub(super) fn connection(&self, replica: &Replica<'_>) -> Implied {
        let container = format!("{}-{}-{}", replica.bundle, self.engine, replica.number);
        let mut connection = Implied::connection(replica.name, &container);
        let address = replica.address.clone().unwrap_or_else(|| "#uname".to_owned());
        connection.parameters.push(("addr", address));
        connection.parameters.push(("port", self.port().to_owned()));
        connection
    }
}
