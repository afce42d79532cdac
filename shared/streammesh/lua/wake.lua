#!lua flags=allow-oom
-- Ends the waits of tasks for an event that came. Of several who wake one task, one does. A run that counts only what was
-- published in time is not woken by what was published later: it waits for nothing any more but its own time.
-- KEYS waiters (ZSET), due (ZSET), due_entries (HASH)
-- ARGS value (the event, JSON), after (field of the rows: which events of that kind they had), score (of the event)
-- tasks: KEYS row (HASH), queue (STREAM) ARGS waiter (member of waiters), task, name (of the wait)
-- Returns per task 1 if this call ended its wait, 0 if not.
--#include _wait.lua
local now, answers = now_ms(), {}
for i, one in ipairs(tasks) do
  answers[i] = 0
  local last = redis.call('HGET', one.row, 'last:' .. one.name)
  local is_late = last and (tonumber(score) or 0) > (tonumber(last) or 0)
  if write('ZREM', waiters, one.waiter) == 1 and not is_late and end_wait({ row = one.row, queue = one.queue, due = due,
      due_entries = due_entries, task = one.task, name = one.name, kind = 'event', value = value, now = now }) then
    redis.call('HSET', one.row, after, score)
    answers[i] = 1
  end
end
return answers
