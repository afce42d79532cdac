-- Tells clients: appends to the capped stream of notifications and remembers the position in the
-- event's row, so that one event's history is found without a search.
-- n = {stream, kept, row, source, type, event, task, service, event_type, subject, body}
local function notify(n)
  local id = redis.call('XADD', n.stream, 'MAXLEN', '~', n.kept, '*', 't', n.type, 'e', n.event, 'k', n.task,
    'v', n.service, 'y', n.event_type, 'u', n.subject, 'b', n.body)
  local field = 'notes:' .. n.source
  local notes = redis.call('HGET', n.row, field)
  if notes then
    if #notes < 8192 then redis.call('HSET', n.row, field, notes .. ' ' .. id) end
  elseif redis.call('EXISTS', n.row) == 1 then
    redis.call('HSET', n.row, field, id)
  end
  return id
end
