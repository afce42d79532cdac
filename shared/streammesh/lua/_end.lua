-- Ends a task: its row, the record of ended ones, what clients are told, and the end of its event when it was
-- the last one. The caller has checked that it may, and looks after the queue entry and the list of open tasks.
-- c = {notes, kept, ended, stamp, since}: the same for all; the moment, and how far back ended ones are kept, in digits
-- t = {row, event_row, keep, was, state, outcome, attempt, queued, started, id, name, service, source, event,
--   event_type, subject, fragment, body}
local ENDED = { succeeded = true, failed = true, cancelled = true, expired = true }

local function end_task(c, t)
  redis.call('HSET', t.row, 'state', t.state, 'ended', c.stamp, 'outcome', t.outcome)
  if t.was ~= 'started' then redis.call('HDEL', t.row, 'due') end
  redis.call('PEXPIRE', t.row, t.keep)
  write('XADD', c.ended, 'MINID', '~', c.since, '*', 's', t.state, 'n', t.name,
    'v', t.service, 'a', t.attempt or '0', 'q', t.queued or '', 'r', t.started or '', 'k', t.id, 'y', t.event_type)
  local note = { stream = c.notes, kept = c.kept, type = 'task.' .. t.state, event = t.event, task = t.id,
    service = t.service, event_type = t.event_type, subject = t.subject, body = t.body }
  local id, source = tell(note), t.source
  local event = redis.call('HMGET', t.event_row, 'at:' .. source, 'notes:' .. source, 'want:' .. source,
    'done:' .. source, 'failed:' .. source)
  if not event[1] then return end
  local notes, done, failed = noted(event[2], id), tonumber(event[4] or '0') + 1, tonumber(event[5] or '0')
  if t.state ~= 'succeeded' then failed = failed + 1 end
  if event[3] == tostring(done) then
    note.type, note.task, note.service = 'event.completed', '', ''
    note.body = t.fragment .. ',"data":{"tasks":' .. done .. ',"failed":' .. failed .. '}'
    notes = noted(notes, tell(note))
  end
  redis.call('HSET', t.event_row, 'notes:' .. source, notes, 'done:' .. source, done, 'failed:' .. source, failed)
end
