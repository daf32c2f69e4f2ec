"""Settings: every source, their precedence, and one clear sentence for everything that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmesh.bridge.command_line import render_help
from kmesh.bridge.option import Sources
from kmesh.bridge.settings import OPTIONS, Settings, load_settings
from kmesh.bridge.sources import env_name, flag_name
from kmesh.errors import ConfigError
from kmesh.model.address import HostAddress

SERVER = ["--xds-server", "istiod:15010"]


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """Looks like a cgroup v2 directory, as far as settings look."""
    directory = tmp_path / "cgroup"
    directory.mkdir()
    (directory / "cgroup.controllers").touch()
    return directory


@pytest.fixture
def mounts(tmp_path: Path, cgroup: Path) -> Path:
    file = tmp_path / "mounts"
    file.write_text(f"proc /proc proc rw 0 0\ncgroup2 {cgroup} cgroup2 rw 0 0\n")
    return file


def load(argv: list[str], mounts: Path, env: dict[str, str] | None = None) -> Settings:
    return load_settings(argv, env or {}, mounts)


def test_defaults(mounts: Path, cgroup: Path) -> None:
    got = load(SERVER, mounts)
    assert got.xds_server == HostAddress("istiod", 15010)
    assert (got.xds_variant, got.instance, got.node_cluster) == ("delta", "default", "kmesh")
    assert (got.log_format, got.log_level) == ("text", "info")
    assert got.state_dir == Path("/var/lib/kmesh/default")
    assert got.api_socket == Path("/run/kmesh/default.sock")
    assert got.bpffs == Path("/sys/fs/bpf")
    assert got.cgroup == (cgroup,)
    assert got.node_metadata == {}
    assert not got.tls and got.is_serving


def test_paths_follow_the_instance(mounts: Path) -> None:
    got = load([*SERVER, "--instance", "blue-2", "--api-socket", "/tmp/x.sock"], mounts)
    assert got.state_dir == Path("/var/lib/kmesh/blue-2")
    assert got.api_socket == Path("/tmp/x.sock")


@pytest.mark.parametrize(
    ("argv", "env", "file", "want"),
    [
        pytest.param([], {}, "", "default", id="default"),
        pytest.param([], {}, "instance: file", "file", id="file over default"),
        pytest.param([], {"KMESH_INSTANCE": "env"}, "instance: file", "env", id="environment over file"),
        pytest.param(["--instance", "cli"], {"KMESH_INSTANCE": "env"}, "instance: file", "cli", id="command line"),
        pytest.param([], {"KMESH_INSTANCE": ""}, "instance: file", "file", id="an empty variable is unset"),
        pytest.param([], {}, "instance:", "default", id="an empty key is unset"),
    ],
)
def test_precedence(
    argv: list[str], env: dict[str, str], file: str, want: str, mounts: Path, tmp_path: Path
) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(file)
    got = load([*SERVER, "--config", str(config), *argv], mounts, env)
    assert got.instance == want
    assert got.config == config


def test_a_repeatable_option_replaces_the_lower_source_whole(mounts: Path, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("node-metadata: {A: file, B: file}")
    got = load([*SERVER, "--config", str(config), "--node-metadata", "A=cli"], mounts)
    assert got.node_metadata == {"A": "cli"}


def test_the_file_may_be_named_by_the_environment(mounts: Path, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("xds-server: '[::1]:15010'\nxds-variant: sotw\ntls-ca: /ca.pem\n")
    got = load([], mounts, {"KMESH_CONFIG": str(config)})
    assert (got.xds_server, got.xds_variant, got.tls) == (HostAddress("::1", 15010), "sotw", True)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("istiod.istio-system:15010", HostAddress("istiod.istio-system", 15010)),
        ("127.0.0.1:1", HostAddress("127.0.0.1", 1)),
        ("[2001:DB8::1]:65535", HostAddress("2001:db8::1", 65535)),
        ("unix:/run/xds.sock", Path("/run/xds.sock")),
        ("unix:///run/xds.sock", Path("/run/xds.sock")),
    ],
)
def test_xds_server(text: str, want: object, mounts: Path) -> None:
    assert load(["--xds-server", text], mounts).xds_server == want


METADATA = {"NAMESPACE": "shop", "LABELS": {"app": "cart, or two"}, "ISTIO_VERSION": "1.20", "DNS_CAPTURE": "true"}


@pytest.mark.parametrize(
    ("argv", "env", "file"),
    [
        pytest.param(
            [
                *("--node-metadata", "NAMESPACE=shop"),
                *("--node-metadata", 'LABELS={"app": "cart, or two"}'),
                *("--node-metadata", 'ISTIO_VERSION="1.20"'),
                *("--node-metadata", "DNS_CAPTURE=true"),
            ],
            {},
            "",
            id="command line",
        ),
        pytest.param(
            [],
            {
                "KMESH_NODE_METADATA": '{"NAMESPACE": "shop", "LABELS": {"app": "cart, or two"}, '
                '"ISTIO_VERSION": "1.20", "DNS_CAPTURE": true}'
            },
            "",
            id="environment as JSON",
        ),
        pytest.param(
            [],
            {},
            "node-metadata:\n  NAMESPACE: shop\n  LABELS: {app: 'cart, or two'}\n  ISTIO_VERSION: '1.20'\n"
            "  DNS_CAPTURE: true\n",
            id="file as a mapping",
        ),
        pytest.param(
            [],
            {},
            "node-metadata: [NAMESPACE=shop, 'LABELS={\"app\": \"cart, or two\"}', ISTIO_VERSION=1.20,\n"
            "  DNS_CAPTURE=true]",
            id="file as a list",
        ),
    ],
)
def test_node_metadata(argv: list[str], env: dict[str, str], file: str, mounts: Path, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(file)
    assert load([*SERVER, "--config", str(config), *argv], mounts, env).node_metadata == METADATA


def test_repeatable_in_the_environment_is_comma_separated(mounts: Path, tmp_path: Path) -> None:
    want = [tmp_path / "a", tmp_path / "b"]
    for directory in want:
        directory.mkdir()
        (directory / "cgroup.controllers").touch()
    got = load(SERVER, mounts, {"KMESH_CGROUP": f"{want[0]}, {want[1]}", "KMESH_NODE_METADATA": "A=1,B=2"})
    assert got.cgroup == tuple(want)
    assert got.node_metadata == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("argv", "env", "want"),
    [
        pytest.param([], {}, False, id="off"),
        pytest.param(["--tls"], {}, True, id="asked for"),
        pytest.param(["--tls-ca", "/ca.pem"], {}, True, id="implied by a CA"),
        pytest.param(["--tls-server-name", "istiod"], {}, True, id="implied by a server name"),
        pytest.param(["--no-tls"], {"KMESH_TLS": "true"}, False, id="environment overridden"),
        pytest.param([], {"KMESH_TLS": "1"}, True, id="environment"),
    ],
)
def test_tls(argv: list[str], env: dict[str, str], want: bool, mounts: Path) -> None:
    assert load([*SERVER, *argv], mounts, env).tls is want


def test_variables_of_a_kubernetes_service_named_kmesh_are_no_options(mounts: Path) -> None:
    env = {
        "KMESH_SERVICE_HOST": "10.0.0.1",
        "KMESH_SERVICE_PORT": "80",
        "KMESH_SERVICE_PORT_HTTP_API": "80",
        "KMESH_PORT": "tcp://10.0.0.1:80",
        "KMESH_PORT_80_TCP_ADDR": "10.0.0.1",
        "KMESH_BRIDGE_PORT_15010_TCP_PROTO": "tcp",
        "KMESH_INSTANCE": "kept",
    }
    assert load(SERVER, mounts, env).instance == "kept"


@pytest.mark.parametrize("action", ["--version", "--uninstall"])
def test_actions_ask_for_no_configuration_source(action: str, tmp_path: Path) -> None:
    got = load([action, "--instance", "blue"], tmp_path / "no mounts read")
    assert not got.is_serving
    assert got.instance == "blue"


@pytest.mark.parametrize(
    ("argv", "env", "want"),
    [
        ([], {}, "--xds-server and --config-dir are both missing: give exactly one of them (see --help)"),
        (
            [*SERVER, "--config-dir", "/"],
            {},
            "--xds-server and --config-dir are both given: give exactly one of them (see --help)",
        ),
        ([*SERVER, "--instnace", "x"], {}, "there is no option --instnace: did you mean --instance?"),
        ([*SERVER, "--quux"], {}, "there is no option --quux: see --help"),
        ([*SERVER, "extra"], {}, "'extra' is not expected: every setting is given by its --name (see --help)"),
        ([*SERVER, "--instance"], {}, "--instance: expected one argument: see --help"),
        ([*SERVER], {"KMESH_XDS_SEVRER": "x"}, "there is no option KMESH_XDS_SEVRER: did you mean KMESH_XDS_SERVER?"),
        ([*SERVER], {"KMESH_UNINSTALL": "1"}, "there is no option KMESH_UNINSTALL: "),
        ([*SERVER, "--instance", "My_Mesh"], {}, "--instance: 'My_Mesh' cannot name an instance: use 1 to 32 of "),
        ([*SERVER, "--instance", "x" * 33], {}, "--instance: "),
        (SERVER, {"KMESH_INSTANCE": "a/b"}, "KMESH_INSTANCE: 'a/b' cannot name an instance: "),
        ([*SERVER, "--xds-variant", "v2"], {}, "--xds-variant: 'v2' is not a choice: use sotw or delta"),
        (["--xds-server", "istiod"], {}, "--xds-server: 'istiod' has no port from 1 to 65535: write HOST:PORT"),
        (["--xds-server", "istiod:0"], {}, "--xds-server: 'istiod:0' has no port from 1 to 65535: "),
        (["--xds-server", "istiod:99999"], {}, "--xds-server: 'istiod:99999' has no port"),
        (["--xds-server", "::1:15010"], {}, "--xds-server: '::1:15010' is ambiguous: write an IPv6 "),
        (["--xds-server", "[10.0.0.1]:1"], {}, "--xds-server: '10.0.0.1' is not an IPv6 address: "),
        (["--xds-server", "http://a:1"], {}, "--xds-server: 'http://a:1' is ambiguous: "),
        (["--xds-server", "a/b:1"], {}, "--xds-server: 'a/b' is not a host name: "),
        (["--xds-server", "unix:xds.sock"], {}, "--xds-server: 'unix:xds.sock' has no absolute path: "),
        (["--xds-server", ""], {}, "--xds-server: '' has no port"),
        (["--config-dir", "/nowhere"], {}, "--config-dir: /nowhere is not a directory: create it or "),
        ([*SERVER, "--node-metadata", "x"], {}, "--node-metadata: 'x' is not KEY=VALUE: write it as in "),
        ([*SERVER, "--node-metadata", "x={"], {}, "--node-metadata: the value of x is not JSON ("),
        (SERVER, {"KMESH_NODE_METADATA": "{x"}, "KMESH_NODE_METADATA: not a JSON object ("),
        ([*SERVER, "--node-cluster", ""], {}, "--node-cluster: the value is empty: give one, or "),
        (SERVER, {"KMESH_TLS": "maybe"}, "KMESH_TLS: 'maybe' is neither true nor false: use one of the two"),
        ([*SERVER, "--tls-cert", "/c"], {}, "--tls-cert and --tls-key go together: give both or neither"),
        ([*SERVER, "--no-tls", "--tls-ca", "/c"], {}, "--tls-ca is given and TLS is off: leave out one of the two"),
        (["--config-dir", "/", "--tls"], {}, "--config-dir is served inside this process: leave out "),
        ([*SERVER, "--token-file", "/t"], {}, "--token-file would be sent in clear over the network: "),
        (["--xds-server", "unix:/x", "--tls"], {}, "a Unix socket has no host name to check a certificate for: "),
        ([*SERVER, "--cgroup", "/proc"], {}, "--cgroup /proc is not a cgroup v2 directory: "),
        ([*SERVER, "--config", "/nowhere"], {}, "cannot read the configuration file /nowhere ("),
    ],
)
def test_every_mistake_is_one_sentence_with_its_remedy(
    argv: list[str], env: dict[str, str], want: str, mounts: Path
) -> None:
    with pytest.raises(ConfigError) as e:
        load(argv, mounts, env)
    got = str(e.value)
    assert got.startswith(want)
    assert "\n" not in got
    assert ": " in got


@pytest.mark.parametrize(
    ("content", "want"),
    [
        ("instnace: x", "there is no option instnace in FILE: did you mean instance?"),
        ("uninstall: true", "there is no option uninstall in FILE: see --help for the names there are"),
        ("config: other.yaml", "there is no option config in FILE: "),
        ("- a list", "the configuration file FILE is not a mapping: write one 'name: value' a line"),
        ("a: {", "the configuration file FILE is not YAML ("),
        ("\0", "the configuration file FILE is not YAML ("),
        ("instance: on", "instance in FILE: True is a bool, and the option takes text: put it in quotes"),
        ("instance: {a: b}", "instance in FILE: a single value is expected here: write it as text"),
        ("instance: [a, b]", "instance in FILE: a single value is expected here: write it as text"),
        ("tls: 'on'", "tls in FILE: 'on' is a str, and the option takes true or false"),
        ("cgroup: [[a]]", "cgroup in FILE: a single value is expected here: write it as text"),
        ("1: 2", "there is no option 1 in FILE: "),
    ],
)
def test_mistakes_in_the_file(content: str, want: str, mounts: Path, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(content)
    with pytest.raises(ConfigError) as e:
        load([*SERVER, "--config", str(config)], mounts)
    assert str(e.value).replace(str(config), "FILE").startswith(want)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("server", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/x"])
def test_a_token_may_go_in_clear_to_this_machine(server: str, mounts: Path) -> None:
    assert load(["--xds-server", server, "--token-file", "/t"], mounts).token_file == Path("/t")


def test_no_cgroup2(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n")
    with pytest.raises(ConfigError, match="no cgroup2 file system is mounted: run `mount -t cgroup2"):
        load(SERVER, mounts)


def test_help_fits_100_columns_and_names_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as e:
        load(["--help"], tmp_path)
    got = capsys.readouterr().out
    assert e.value.code == 0
    assert got == render_help(OPTIONS)
    assert max(map(len, got.splitlines())) <= 100
    words = set(re.findall(r"[\w-]+", got))
    for name, option in OPTIONS.items():
        assert flag_name(name) in words
        assert (env_name(name) in words) is (option.sources is not Sources.COMMAND_LINE)
