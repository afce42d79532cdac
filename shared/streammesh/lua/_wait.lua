-- Waits of durable handlers: ends one by queueing its task again.
--#include _time.lua
--#include _entry.lua
--#include _flow.lua
--#include _states.lua

-- Records what a wait came to and, where the task waits for just that, moves its queue entry out of the due set.
-- w = {row, queue, due, due_entries, task, name, kind, value, now}
-- Answers whether this call recorded it; nil where no such task goes on.
local function end_wait(w)
  local row = redis.call('HMGET', w.row, 'state', 'waiting', 'flow')
  local state = row[1]
  if not state or ENDED[state] then return nil end
  if redis.call('HSETNX', w.row, 'step:' .. w.name, digits(w.now) .. ' ' .. w.kind .. ' ' .. w.value) == 0 then return false end
  write('HINCRBY', w.row, 'steps', 1)
  write('HINCRBY', w.row, 'step_bytes', #w.value)
  if state ~= 'waiting' or row[2] ~= w.name then return true end
  local member = 'task:' .. w.task
  local h, b = due_fields(w.due_entries, member)
  if not h then return true end  -- it lies nowhere: the reconciler queues it again
  redis.call('ZREM', w.due, member)
  redis.call('HDEL', w.due_entries, member, 'h ' .. member, 'b ' .. member, 'u ' .. member)
  flow_again(w.row, row[3], w.task, w.queue, { 'h', h, 'b', b or '' })
  redis.call('HDEL', w.row, 'due', 'lost', 'waiting')
  return true
end
