"""What `streammesh status` and `streammesh services list` print of a service's processes."""

from __future__ import annotations

from streammesh.cli import status


def service(**about):
    return {"service": "email_worker", "workers": 2, "processes": ["vm/1:11", "vm/2:12"], **about}


def test_the_processes_of_a_service_are_named_and_of_many_the_first_ones(capsys):
    many = [f"vm/{n}:{n}" for n in range(1, 31)]
    status._show_processes([service(), service(service="big", workers=30, processes=many)])
    status._show_processes([service(service="away", workers=0, processes=[])])

    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("email_worker: vm/1:11, vm/2:12 big: vm/1:1, ")
    assert "vm/8:8 and 22 more" in shown
    assert "away" not in shown
