#!lua flags=allow-oom
-- Finds open tasks of a subscription that an event cancels: those with its value that were published before it. What stands in
-- the index and is no open task any more leaves it.
-- KEYS cancellable (ZSET, of the subscription's open tasks), canceller (HASH, which event cancels)
-- ARGS digest (of the value),
--   after (member of the index to go on behind, '' for the first), most, task_prefix (what a task's key begins with)
-- Returns {who cancels (JSON), the last member, or '' where nothing follows, {task id, its fields as HMGET names them below}, ...};
-- {} where no such event is remembered.
--#include _write.lua
local FIELDS = { 'state', 'attempt', 'meta', 'entry', 'held', 'workflow' }
local OPEN = { pending = true, queued = true, started = true, retrying = true, waiting = true, held = true }
local said = write('HMGET', canceller, 'before', 'by')
if not said[1] or not said[2] then return {} end
local from = after == '' and '[' .. digest .. ' ' or '(' .. after
local members = write('ZRANGEBYLEX', cancellable, from, '(' .. digest .. ' ' .. said[1], 'LIMIT', 0, most)
local answer = { said[2], #members == most and members[#members] or '' }
for _, member in ipairs(members) do
  local task = string.match(member, '^%x+ %d+ (.+)$') or ''
  local row = redis.pcall('HMGET', task_prefix .. task, unpack(FIELDS))
  if row.err or not OPEN[row[1]] or not row[3] then
    redis.call('ZREM', cancellable, member)
  else
    answer[#answer + 1] = { task, unpack(row) }
  end
end
return answer
