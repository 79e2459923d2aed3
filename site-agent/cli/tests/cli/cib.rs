//! The real command on CIBs in files and in a store.

use std::path::Path;

use super::support::{Run, tierce};
use tempfile::{TempDir, tempdir};

const CIB: &str = r#"<cib validate-with="pacemaker-3.9" admin_epoch="0" epoch="7" num_updates="3">
  <!-- ours -->
  <configuration>
    <crm_config/>
    <nodes>
      <node id="1" uname="n1"/>
    </nodes>
    <resources>
      <primitive id="web" class="systemd" type="httpd">
        <operations>
          <op id="web-monitor" name="monitor" interval="10s" timeout="20s"/>
        </operations>
      </primitive>
    </resources>
    <constraints>
      <rsc_location id="l" rsc="web" node="n1" score="100"/>
    </constraints>
  </configuration>
  <status/>
</cib>
"#;

/// It ended with this code, and what it has to say is on stdout.
fn ends(args: &[&str], code: i32) -> Run {
    let run = tierce(args);
    assert_eq!(run.code, code, "{run:#?}");
    run
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn a_cib_is_shown_as_it_is_and_asked_by_queries() {
    let files = Files::new();
    let cib = files.file("cib.xml", CIB);
    assert_eq!(tierce(&["cib", "show", &cib]).ok().out, CIB);
    let section = tierce(&["cib", "show", &cib, "--section", "constraints"]).ok().out;
    assert!(section.starts_with("<constraints>") && section.contains("rsc=\"web\""), "{section}");
    assert_eq!(tierce(&["cib", "query", "//op/@interval", &cib]).ok().out, "10s\n");
    let json = tierce(&["cib", "query", "//primitive", &cib, "-o", "json"]).ok().json();
    assert_eq!((&json["found"][0]["id"], &json["found"][0]["line"]), (&"web".into(), &9.into()));
    tierce(&["cib", "query", "//nothing", &cib]).failed(105);
    tierce(&["cib", "query", "//a[contains(@x,'y')]", &cib]).failed(64);
    tierce(&["cib", "show", &cib, "--section", "constraint"]).failed(105);
    tierce(&["cib", "show", &files.path("none.xml")]).failed(105);
    let broken = files.file("broken.xml", "<cib>\n<a></cib>");
    let run = tierce(&["cib", "show", &broken]).failed(78);
    assert!(run.err.contains("line 2, column 4: </cib> where </a> is needed"), "{run:#?}");
}

#[test]
fn what_is_wrong_is_listed_with_its_lines() {
    let files = Files::new();
    let cib = files.file("cib.xml", CIB);
    assert!(tierce(&["cib", "verify", &cib]).ok().out.contains("valid by pacemaker-3.9"));
    let bad =
        CIB.replace("rsc=\"web\" node=\"n1\"", "rsc=\"wed\" node=\"n2\"").replace("type=", "typ=");
    let bad = files.file("bad.xml", &bad);
    let run = ends(&["cib", "verify", &bad], 78);
    for line in [
        "line 9: <primitive id=\"web\">: unknown attribute typ (did you mean type?)",
        "line 16: <rsc_location id=\"l\">: rsc=\"wed\" names no resource",
        "line 16: warning: <rsc_location id=\"l\">: node=\"n2\" names no node",
    ] {
        assert!(run.out.contains(line), "{line}: {run:#?}");
    }
    let json = ends(&["cib", "verify", &bad, "-o", "json"], 78).json();
    assert_eq!(json["valid"], false);
    let warned = files.file("warned.xml", &CIB.replace("node=\"n1\"", "node=\"n2\""));
    tierce(&["cib", "verify", &warned]).ok();
    ends(&["cib", "verify", &warned, "--strict"], 78);
    let ring =
        CIB.replace("</resources>", r#"<primitive id="db" class="systemd" type="x"/></resources>"#);
    let ring = ring.replace(
        "</constraints>",
        r#"<rsc_order id="o1" first="web" then="db"/><rsc_order id="o2" first="db" then="web"/></constraints>"#,
    );
    let run = tierce(&["cib", "verify", &files.file("ring.xml", &ring)]).ok();
    assert!(
        run.out.contains("warning: <rsc_order id=\"o1\">: with <rsc_order id=\"o2\">"),
        "{run:#?}"
    );
    let old = files.file("old.xml", &CIB.replace("pacemaker-3.9", "pacemaker-2.10"));
    let run = tierce(&["cib", "verify", &old]).failed(78);
    assert!(run.err.contains("tierce cib upgrade"), "{run:#?}");
    let run = tierce(&["cib", "upgrade", &old]).ok();
    assert_eq!(run.out, CIB.replace("pacemaker-3.9", "pacemaker-3.0"));
    let renamed = CIB.replace(
        "<crm_config/>",
        "<crm_config><cluster_property_set id=\"o\"><nvpair id=\"p\" name=\"stonith_enabled\" \
         value=\"true\"/></cluster_property_set></crm_config>",
    );
    let renamed = files.file("renamed.xml", &renamed.replace("pacemaker-3.9", "pacemaker-2.0"));
    let run = tierce(&["cib", "upgrade", &renamed]).failed(78);
    assert!(run.err.contains("stonith_enabled"), "{run:#?}");
}

#[test]
fn a_patch_leads_from_one_cib_to_the_other() {
    let files = Files::new();
    let (old, new) = (
        files.file("old.xml", CIB),
        files.file("new.xml", &CIB.replace("epoch=\"7\"", "epoch=\"8\"").replace("20s", "30s")),
    );
    assert_eq!(tierce(&["cib", "diff", &old, &old]).ok().out, "");
    let run = ends(&["cib", "diff", &old, &new], 1);
    assert!(run.out.contains("op web-monitor: timeout \"20s\" -> \"30s\""), "{run:#?}");
    let patch = ends(&["cib", "diff", &old, &new, "--patch"], 1).out;
    let patch = files.file("patch.xml", &patch);
    let result = tierce(&["cib", "patch", "apply", &old, &patch]).ok().out;
    assert_eq!(result, std::fs::read_to_string(&new).unwrap());
    tierce(&["cib", "patch", "apply", &old, &patch, "--write"]).ok();
    assert_eq!(std::fs::read_to_string(&old).unwrap(), result);
    let run = tierce(&["cib", "patch", "apply", &old, &patch]).failed(113);
    assert!(run.err.contains("begins at version 0.7.3"), "{run:#?}");
}

#[test]
fn a_store_takes_only_what_is_sound_and_newer() {
    let files = Files::new();
    let store = files.path("store");
    let cib = files.file("cib.xml", CIB);
    tierce(&["cib", "show", "--store", &store]).failed(105);
    tierce(&["cib", "push", &cib, "--store", &store]).ok();
    let run = tierce(&["cib", "push", &cib, "--store", &store]).failed(113);
    assert!(run.err.contains("the store has version 0.7.0"), "{run:#?}");
    let next = files.file("next.xml", &CIB.replace("20s", "30s"));
    let dry = tierce(&["cib", "push", &next, "--store", &store, "--dry-run"]).ok();
    assert!(dry.out.contains("timeout \"20s\" -> \"30s\""), "{dry:#?}");
    let run = tierce(&["cib", "push", &next, "--store", &store, "--bump"]).ok();
    assert!(run.out.contains("version 0.8.0"), "{run:#?}");
    let bad = files.file("bad.xml", &CIB.replace("rsc=\"web\"", "rsc=\"wed\""));
    let run = tierce(&["cib", "push", &bad, "--store", &store, "--bump"]).failed(78);
    assert!(run.err.contains("1 errors; the first: line 16"), "{run:#?}");
    let shown = tierce(&["cib", "show", "--store", &store, "--xpath", "//op/@timeout"]).ok();
    assert_eq!(shown.out, "30s\n");
    let inside = Path::new(&store).join("cib.xml");
    let text = std::fs::read_to_string(&inside).unwrap();
    std::fs::write(&inside, text.replace("30s", "40s")).unwrap();
    let run = tierce(&["cib", "show", "--store", &store]).failed(78);
    assert!(run.err.contains("was edited by hand"), "{run:#?}");
    assert!(run.err.contains("safer: move the file away"), "{run:#?}");
}

#[test]
fn resources_are_listed_and_drawn() {
    let files = Files::new();
    let cib = files.file("cib.xml", CIB);
    let run = tierce(&["cib", "resources", &cib]).ok();
    assert_eq!(run.out, "primitive web (systemd:httpd)\n    monitor interval=10s timeout=20s\n");
    let json = tierce(&["cib", "resources", &cib, "-o", "json"]).ok().json();
    assert_eq!(json["resources"][0]["agent"], "systemd:httpd");
    let dot = tierce(&["cib", "graph", &cib]).ok().out;
    assert!(dot.starts_with("digraph cib {") && dot.contains("\"web\" -> \"node n1\""), "{dot}");
}

#[test]
fn what_would_be_done_is_shown_and_a_cib_that_is_not_valid_is_not_simulated() {
    let files = Files::new();
    let cib = files.file("cib.xml", CIB);
    let (graph, dot) = (files.path("graph.xml"), files.path("graph.dot"));
    let run = tierce(&["crm-simulate", "-x", &cib, "-S", "-G", &graph, "-D", &dot]).ok();
    let parts =
        ["Current cluster status:", "Transition Summary:", "web\t(systemd:httpd):\t Stopped"];
    for part in parts {
        assert!(run.out.contains(part), "{part}: {run:#?}");
    }
    assert!(std::fs::read_to_string(&graph).unwrap().starts_with("<transition_graph"));
    assert!(std::fs::read_to_string(&dot).unwrap().contains("digraph"));

    let wrong = files.file("wrong.xml", &CIB.replace("type=\"httpd\"", "typ=\"httpd\""));
    let run = ends(&["crm-simulate", "-x", &wrong, "-S"], 78);
    assert!(run.out.is_empty(), "{run:#?}");
    for part in ["not valid by pacemaker-3.9", "line 9", "type is missing", "tierce cib verify"] {
        assert!(run.err.contains(part), "{part}: {run:#?}");
    }
    ends(&["crm-simulate", "-x", &files.path("none.xml"), "-S"], 105);
    ends(&["crm-simulate", "--no-such-option"], 64);
}
