"""The files for the proxies before the gateway: no log holds a path, and the sender's address is the proxy's word.

Neither proxy is installed with the project, so their texts are held to the rules that each documents for its log.
"""

from __future__ import annotations

import re
from pathlib import Path

from callback_gateway.sources import SOURCE_HEADER
from case_desk.config import DeskSettings
from case_desk.persons import SECRET_HEADER

DEPLOY = Path(__file__).parents[2] / "deploy"


def directives(name: str) -> list[str]:
    """The lines that say something, without comments."""
    lines = (line.strip() for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_nginx_logs_no_path() -> None:
    lines = directives("nginx.conf")
    formats = {line.split()[1]: line for line in lines if line.startswith("log_format")}
    logs = [line.rstrip(";").split() for line in lines if line.startswith("access_log")]
    assert logs, "without one, nginx writes its own format, which has the request line"
    for log in logs:
        shown = set(re.findall(r"\$(\w+)", formats[log[2]]))
        known = {
            "time_iso8601", "remote_addr", "request_method", "status", "request_time", "upstream_status", "bytes_sent",
        }  # fmt: skip
        assert shown <= known
    assert [line for line in lines if line.startswith("error_log")] == ["error_log /dev/null;"]
    assert "rewrite_log off;" in lines
    assert not any(line.startswith(("include", "mirror", "auth_request")) for line in lines)


def test_nginx_says_from_where_a_callback_came() -> None:
    lines = directives("nginx.conf")
    assert [line for line in lines if SOURCE_HEADER in line] == [f"proxy_set_header {SOURCE_HEADER} $remote_addr;"]
    assert "proxy_next_upstream off;" in lines, "a callback is handed over once"


def test_haproxy_logs_no_path() -> None:
    lines = directives("haproxy.cfg")
    formats = [line for line in lines if line.startswith(("log-format", "error-log-format"))]
    assert len(formats) == 2
    known = {"t", "ci", "HM", "ST", "Ta", "B", "ts", "ft"}
    for line in formats:
        assert set(re.findall(r"%(\w+)", line)) <= known
        assert set(re.findall(r"%\[([^\]]+)\]", line)) <= {"fc_err_str"}
    assert not any(line.startswith(("option httplog", "option tcplog", "capture", "unique-id")) for line in lines)
    assert not any("capture" in line for line in lines)


def test_haproxy_says_from_where_a_callback_came() -> None:
    lines = directives("haproxy.cfg")
    assert [line for line in lines if SOURCE_HEADER in line] == [f"http-request set-header {SOURCE_HEADER} %[src]"]
    assert "retries 0" in lines, "a callback is handed over once"


def test_nginx_replaces_who_a_browser_says_it_is() -> None:
    lines = directives("desk.nginx.conf")
    named = str(DeskSettings.model_fields["person_header"].default)
    assert [line for line in lines if named in line] == [f"proxy_set_header {named} $remote_user;"]
    assert [line for line in lines if line.startswith("include")] == ["include /etc/nginx/desk-secret.conf;"]
    assert "proxy_next_upstream off;" in lines, "a form is sent once"
    assert f'proxy_set_header {SECRET_HEADER} "' in (DEPLOY / "desk.nginx.conf").read_text(encoding="utf-8")
