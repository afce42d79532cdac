-- Tells clients: appends one notification to the capped stream and returns its position.
-- n = {stream, kept, type, event, task, service, event_type, subject, body}
--#include _write.lua
local function tell(n)
  if n.task == '' or n.subject ~= '' then
    return write('XADD', n.stream, 'MAXLEN', '~', n.kept, '*', 't', n.type, 'e', n.event, 'k', n.task,
      'v', n.service, 'y', n.event_type, 'u', n.subject, 'b', n.body)
  end
  return write('XADD', n.stream, 'MAXLEN', '~', n.kept, '*', 't', n.type, 'e', n.event, 'k', n.task,
    'v', n.service, 'y', n.event_type, 'b', n.body)
end

-- The positions of one event's notifications are kept in its row, so that its history is found without
-- a search. Returns them with one more; a flood of progress does not grow them for ever.
local function noted(notes, id)
  if not notes or notes == '' then return id end
  if #notes >= 8192 then return notes end
  return notes .. ' ' .. id
end

-- Tells what became of a task and notes it in its event's row, where that is still there.
-- n = as `tell`, and {row, source}
local function tell_of_event(n)
  local id = tell(n)
  local event = redis.call('HMGET', n.row, 'at:' .. n.source, 'notes:' .. n.source)
  if event[1] then redis.call('HSET', n.row, 'notes:' .. n.source, noted(event[2], id)) end
end
