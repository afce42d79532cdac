#!lua flags=allow-oom
-- Gives a task a signal that its handler waits for, or will: the first of a name counts.
-- KEYS row (HASH), queue (STREAM), due (ZSET), due_entries (HASH)
-- ARGS task, name (of the wait), value (JSON), most_steps, most_bytes (both of one task)
-- A signal that the task does not wait for yet may take half of both, so that whoever may send them leaves the handler its own.
-- Returns 'done' | 'known' (there was one before) | 'ended' | 'gone' (there is no such task) | 'full'.
--#include _wait.lua
local had = redis.call('HMGET', row, 'state', 'steps', 'step_bytes', 'step:' .. name, 'waiting')
if not had[1] then return 'gone' end
if had[4] then return 'known' end
local share = had[5] == name and 1 or 0.5
if (tonumber(had[2] or '') or 0) >= most_steps * share or (tonumber(had[3] or '') or 0) + #value > most_bytes * share then
  return 'full'
end
local ended = end_wait({ row = row, queue = queue, due = due, due_entries = due_entries, task = task, name = name,
  kind = 'signal', value = value, now = now_ms() })
if ended == nil then return 'ended' end
return 'done'
