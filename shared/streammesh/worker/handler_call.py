"""Calls a handler, so that whatever way it takes out is an ordinary exception or the worker's own doing.

`sys.exit()`, KeyboardInterrupt, GeneratorExit and a handler that cancels its own asyncio task would otherwise end a
loop, a thread or a coroutine without anybody settling the attempt.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import structlog
from billiard.common import terminate_handler_fired
from celery.exceptions import SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from streammesh.events.envelope import Event
from streammesh.tasks.context import Context
from streammesh.tasks.handler import Binding
from streammesh.tasks.suspension import Suspended
from streammesh.worker.handler_threads import HandlerCall
from streammesh.worker.resources import Plumbing
from streammesh.worker.running_handlers import CancelledItself, EndOfWorker, was_cancelled

log = structlog.get_logger(__name__)


class TookTooLong(Exception):
    """The handler did not end within its `timeout`."""


class WaitedInVain(Exception):
    """The handler waited for something that was cancelled, and did not catch that."""


async def call_async(
    binding: Binding, plumbing: Plumbing, timeout: float | None, context: Context, event: Event
) -> Any:
    """Call the handler with its resources, and the service's hooks around it. Raises as `_call_async`, or what a hook does."""
    hooks = plumbing.hooks
    if not hooks and not binding.resources:
        return await _call_async(binding, plumbing, timeout, context, event, {})
    try:
        for before in hooks.before:
            await _done(before(context))
        given = await plumbing.resources.arguments(binding.resources) if binding.resources else {}
        result = await _call_async(binding, plumbing, timeout, context, event, given)
        for after in reversed(hooks.after):
            await _done(after(context, result))
    except Exception as error:
        for on_failure in reversed(hooks.on_failure):
            try:
                await _done(on_failure(context, error))
            except Exception:
                log.exception("hook.failed", hook=getattr(on_failure, "__qualname__", "?"))
        raise
    return result


async def _done(answer: Any) -> None:
    if inspect.isawaitable(answer):
        await answer


async def _call_async(
    binding: Binding,
    plumbing: Plumbing,
    timeout: float | None,
    context: Context,
    event: Event,
    given: dict[str, Any],
) -> Any:
    """Call the handler on this loop, a `def` handler in a thread; after `timeout` seconds it is told to end.

    Raises what the handler raises; EndOfWorker, CancelledItself, WaitedInVain or TookTooLong for what is no ordinary
    error; asyncio.CancelledError only where the worker itself cancelled it.
    """
    args, kwargs = binding.arguments(event, context)
    kwargs.update(given)
    me = asyncio.current_task()
    assert me is not None
    with plumbing.running.handler(context.task_id):
        try:
            if not binding.is_async:
                result = await _in_thread(plumbing.threads.start(binding.handler, args, kwargs), timeout)
            elif timeout is None:
                result = await binding.handler(*args, **kwargs)
            else:
                async with asyncio.timeout(timeout) as limit:
                    result = await binding.handler(*args, **kwargs)
        except TimeoutError as error:
            if timeout is None or not binding.is_async or not limit.expired():
                raise  # the handler's own
            raise TookTooLong(f"the handler did not end within {timeout} s") from error
        except asyncio.CancelledError as error:
            if was_cancelled(me):
                raise
            if me.cancelling():
                await _take_back_cancel(me)
                raise CancelledItself("the handler cancelled its own task") from error
            # Nobody stopped the handler: passed on, this would end the attempt without anybody being told.
            raise WaitedInVain("something that the handler waited for was cancelled") from error
        except Suspended:
            raise  # the handler waits
        except GeneratorExit as error:
            if not _is_current(me):
                raise  # the loop is gone, and this coroutine is closed
            raise _end_of_worker(error) from error
        except Exception:
            raise
        except BaseException as error:
            raise _end_of_worker(error) from error
        if me.cancelling() and await _take_back_cancel(me):
            raise CancelledItself("the handler cancelled its own task")
        return result


async def _in_thread(call: HandlerCall, timeout: float | None) -> Any:
    """Wait for a handler in a thread, where the soft limit is raised after `timeout` seconds; the hard one is the pool's."""
    if timeout is None:
        return await call.ended()
    alarm = asyncio.get_running_loop().call_later(timeout, call.interrupt, SoftTimeLimitExceeded)
    try:
        return await call.ended()
    except SoftTimeLimitExceeded as error:
        if not call.interrupted:
            raise  # the handler's own
        raise TookTooLong(f"the handler did not end within {timeout} s") from error
    finally:
        alarm.cancel()


def call_sync(
    binding: Binding, plumbing: Plumbing, timeout: float | None, context: Context, event: Event
) -> Any:
    """As `call_async`, of a `def` handler in this thread, where Celery raises the soft limit."""
    hooks = plumbing.hooks
    if not hooks and not binding.resources:
        return _call_sync(binding, timeout, context, event, {})
    run = plumbing.connections.run
    try:
        for before in hooks.before:
            if inspect.isawaitable(answer := before(context)):
                run(_done(answer))
        given = plumbing.resources.arguments_sync(binding.resources) if binding.resources else {}
        result = _call_sync(binding, timeout, context, event, given)
        for after in reversed(hooks.after):
            if inspect.isawaitable(answer := after(context, result)):
                run(_done(answer))
    except Exception as error:
        for on_failure in reversed(hooks.on_failure):
            try:
                if inspect.isawaitable(answer := on_failure(context, error)):
                    run(_done(answer))
            except Exception:
                log.exception("hook.failed", hook=getattr(on_failure, "__qualname__", "?"))
        raise
    return result


def _call_sync(
    binding: Binding, timeout: float | None, context: Context, event: Event, given: dict[str, Any]
) -> Any:
    args, kwargs = binding.arguments(event, context)
    kwargs.update(given)
    try:
        return binding.handler(*args, **kwargs)
    except SoftTimeLimitExceeded:
        raise TookTooLong(f"the handler did not end within {timeout} s") from None
    except (Exception, Suspended):
        raise
    except BaseException as error:
        # The signals that end a pool's child, and the worker, raise SystemExit wherever they find it.
        if terminate_handler_fired() or isinstance(error, WorkerShutdown | WorkerTerminate):
            raise
        raise _end_of_worker(error) from error


def _end_of_worker(error: BaseException) -> EndOfWorker:
    return EndOfWorker(f"the handler raised what would end the worker: {error!r}")


async def _take_back_cancel(task: asyncio.Task[Any]) -> bool:
    """Take back what the handler did to its own task; answers whether a cancel was still on its way."""
    found = False
    try:
        await asyncio.sleep(0)  # a cancel that was asked for and has not come yet comes now
    except asyncio.CancelledError:
        found = True
    if was_cancelled(task):
        raise asyncio.CancelledError  # the worker wanted so at the same moment
    while task.cancelling():
        task.uncancel()
    return found


def _is_current(task: asyncio.Task[Any]) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False
