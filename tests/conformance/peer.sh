#!/usr/bin/env bash
# Fetches crm_simulate 3.0 as Debian 13 has it, for a machine with another Debian: nothing is
# installed, all lies in one folder, and DIR/crm_simulate runs it.
#
#   tests/conformance/peer.sh DIR
#
# Why not the installed one: docs/decisions/0009-the-schedulers-peer.md
set -euo pipefail

RELEASE=trixie
PACKAGE=pacemaker-cli-utils

dir=$(realpath -m "${1:?the folder that gets it}")
if [ -x "$dir/crm_simulate" ]; then exit 0; fi

# The mirror is the one that this machine has for its own release.
# shellcheck disable=SC2016 # names of apt, not of the shell
mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' |
	awk '$2 == "Debian" && $3 == "main" && !seen { print $1; seen = 1 }')
if [ -z "$mirror" ]; then
	echo "peer.sh: apt on this machine knows no Debian mirror (apt-get indextargets lists what it knows)" >&2
	exit 69
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial "$work"/parts
touch "$work/state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $RELEASE main" >"$work/sources.list"
cat >"$work/apt.conf" <<END
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::Etc::parts "$work/parts";
APT::Sandbox::User "root";
Acquire::Languages "none";
END
export APT_CONFIG="$work/apt.conf"
echo "fetching $PACKAGE of Debian $RELEASE and what it needs (some 60 MB, once)" >&2
# As on an empty machine, so that its own C library comes with it.
if ! { apt-get update -qq &&
	apt-get install -qq -y --no-install-recommends --download-only "$PACKAGE" >/dev/null; }; then
	echo "peer.sh: $PACKAGE of Debian $RELEASE could not be had from $mirror, see above; nothing was changed." >&2
	echo "An installed one can stand in: target/release/tierce-conformance --peer crm_simulate (2.1.5 differs more)" >&2
	exit 69
fi

rm -rf "$dir.new"
mkdir -p "$dir.new/root" "$dir.new/shadow" # its own input is put there
for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$dir.new/root"; done
libraries=$dir/root/usr/lib/$(uname -m)-linux-gnu
rm -rf "$dir"
mv "$dir.new" "$dir"
cat >"$dir/crm_simulate.new" <<END
#!/bin/sh
export PCMK_schema_directory=$dir/root/usr/share/pacemaker CIB_shadow_dir=$dir/shadow
exec $(echo "$libraries"/ld-linux-*.so.*) \
	--library-path $libraries:$dir/root/usr/lib $dir/root/usr/sbin/crm_simulate "\$@"
END
chmod +x "$dir/crm_simulate.new"
if ! "$dir/crm_simulate.new" --version >/dev/null; then
	echo "peer.sh: what was fetched does not run, see above; it lies in $dir, and is fetched anew the next time" >&2
	echo "Look for a library that is missing there: ldd $dir/root/usr/sbin/crm_simulate" >&2
	exit 69
fi
mv "$dir/crm_simulate.new" "$dir/crm_simulate"
