-- Tells clients: appends one notification to the capped stream and returns its position. Plain subscribers of Redis get it as
-- well, on the channel of its event's type beside the stream; with a minus before `kept` they do not. Where Redis does
-- not allow that, the record is what counts.
-- n = {stream, kept, type, event, task, service, event_type, subject, body}
--#include _write.lua
local function tell(n)
  local kept, id = n.kept, nil
  local is_quiet = string.byte(kept) == 45
  if is_quiet then kept = string.sub(kept, 2) end
  if n.task == '' or n.subject ~= '' then
    id = write('XADD', n.stream, 'MAXLEN', '~', kept, '*', 't', n.type, 'e', n.event, 'k', n.task,
      'v', n.service, 'y', n.event_type, 'u', n.subject, 'b', n.body)
  else
    id = write('XADD', n.stream, 'MAXLEN', '~', kept, '*', 't', n.type, 'e', n.event, 'k', n.task,
      'v', n.service, 'y', n.event_type, 'b', n.body)
  end
  if not is_quiet then
    redis.pcall('PUBLISH', string.sub(n.stream, 1, -14) .. 'told:' .. n.event_type,
      '{"id":"' .. id .. '","type":"' .. n.type .. '",' .. n.body .. '}')
  end
  return id
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
