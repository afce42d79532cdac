#!lua flags=allow-oom
-- Answers which tasks an attempt took along (`batch`), those that have not ended.
-- KEYS row (HASH, of the run's task)
-- ARGS task (the run's), token (the attempt), entry (of the queue)
-- Returns {'lost'} where the attempt is not the current one; else per task: id, attempts made, b (of a queue entry).
local mine = redis.call('HMGET', row, 'state', 'attempt', 'entry', 'batch')
if mine[1] ~= 'started' or mine[2] ~= token or (entry ~= '' and mine[3] ~= entry) then return { 'lost' } end
local out, before = {}, string.match(row, '^(.-}:)') .. 'task:'
for other in string.gmatch(mine[4] or '', '%S+') do
  local its = redis.pcall('HMGET', before .. other, 'state', 'run', 'attempt', 'b')
  if not its.err and its[1] == 'queued' and its[2] == task then
    local n = #out
    out[n + 1], out[n + 2], out[n + 3] = other, its[3] or '0', its[4] or ''
  end
end
return out
