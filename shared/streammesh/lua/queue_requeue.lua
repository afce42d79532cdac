#!lua flags=allow-oom
-- Puts one pending entry back at the end of its queue, as a copy that counts its deliveries in field `n`.
-- A delivery's row follows its entry. One that was delivered too often stays where it is, for the caller to park.
-- KEYS[1] stream (STREAM)  KEYS[2] row of the task that the entry names, if it names one (HASH)
-- ARGV[1] group  ARGV[2] id  ARGV[3] most deliveries
-- Returns {'moved'} | {'gone'} (not pending any more) | {'poison', deliveries, fields}.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if pending.err or #pending == 0 then return { 'gone' } end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
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
if times >= tonumber(ARGV[3]) then return { 'poison', times, fields } end
copy[#copy + 1], copy[#copy + 2] = 'n', string.format('%.0f', times)
local place = redis.call('XADD', KEYS[1], '*', unpack(copy))
if KEYS[2] and redis.call('HGET', KEYS[2], 'entry') == ARGV[2] then redis.call('HSET', KEYS[2], 'entry', place) end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return { 'moved' }
