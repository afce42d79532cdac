-- Ends a task: its row, the list of open tasks, the record of ended ones, what clients are told, and the end
-- of its event when it was the last one. The caller has checked that it may, and looks after the queue entry.
-- t = {row, event_row, notes, kept, ended, open, now, retention, keep, state, outcome, attempt, queued, started,
--   id, name, service, source, event, event_type, subject, fragment, type, body}
local ENDED = { succeeded = true, failed = true, cancelled = true, expired = true }

local function end_task(t)
  redis.call('HSET', t.row, 'state', t.state, 'ended', digits(t.now), 'outcome', t.outcome, 'lease', '', 'due', '')
  redis.call('PEXPIRE', t.row, t.keep)
  redis.call('ZREM', t.open, t.id)
  redis.call('XADD', t.ended, 'MINID', '~', digits(t.now - t.retention), '*', 's', t.state, 'n', t.name,
    'v', t.service, 'a', t.attempt or '0', 'q', t.queued or '', 'r', t.started or '', 'k', t.id, 'y', t.event_type)
  local note = { stream = t.notes, kept = t.kept, type = t.type, event = t.event, task = t.id, service = t.service,
    event_type = t.event_type, subject = t.subject, body = t.body }
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
