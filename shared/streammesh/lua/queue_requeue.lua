#!lua flags=allow-oom
-- Puts one pending entry back at the end of its queue, as a copy that counts its deliveries in field `n`.
-- A delivery's row follows its entry. One that was delivered too often stays where it is, for the caller to park.
-- KEYS stream (STREAM), task_rows (HASH, of the task that the entry names, if it names one)
-- ARGS group, id, most (deliveries)
-- Returns {'moved'} | {'gone'} (not pending any more) | {'poison', deliveries, fields}.
local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
if pending.err or #pending == 0 then return { 'gone' } end
local found = redis.call('XRANGE', stream, id, id)
if #found == 0 then
  redis.call('XACK', stream, group, id)
  return { 'gone' }
end
local fields, copy, times = found[1][2], {}, pending[1][4]
for i = 1, #fields, 2 do
  if fields[i] == 'n' then
    local before = tonumber(fields[i + 1]) or 0
    if before ~= before or before < 0 or before > 1000000 then before = 1000000 end  -- no script wrote that
    times = times + before
  else
    copy[#copy + 1], copy[#copy + 2] = fields[i], fields[i + 1]
  end
end
if times >= most then return { 'poison', times, fields } end
copy[#copy + 1], copy[#copy + 2] = 'n', string.format('%.0f', times)
local place = redis.call('XADD', stream, '*', unpack(copy))
for _, row in ipairs(task_rows) do
  if redis.call('HGET', row, 'entry') == id then redis.call('HSET', row, 'entry', place) end
end
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
return { 'moved' }
