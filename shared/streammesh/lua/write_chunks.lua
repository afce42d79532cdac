-- Appends chunks to a stream of a running task, under its attempt's fencing token. The first of an attempt begin a new
-- epoch: what an attempt before it wrote is dropped. A repeat of a call that was made (lost reply) changes nothing.
-- KEYS task_row (HASH), chunks (STREAM)
-- ARGS token, entry (of the queue), name (of the stream), task, first (number of the first piece, from 1),
--   most_streams (of one task), lifetime (ms, of a stream whose task's row is lost), pieces (the first letter of each: its kind)
-- Returns {'done'} | {'lost'} | {'cancelled'} (it is wanted cancelled) | {'full'} (the task has as many streams as it may).
--#include _write.lua
--#include _chunks.lua
local field = 'stream:' .. name
local row = redis.call('HMGET', task_row, 'state', 'attempt', 'cancel', 'entry', field, 'streams')
if row[1] ~= 'started' or row[2] ~= token or (entry ~= '' and row[4] ~= entry) then return { 'lost' } end
if row[3] then return { 'cancelled' } end
local owner = token .. '@' .. entry
local epoch, by, written = string.match(row[5] or '', '^(%d+) (%S+) (%d+)$')
written = tonumber(written or '') or 0
if by ~= owner then
  local names, count, known = row[6] or '', 0, false
  for one in string.gmatch(names, '%S+') do
    count = count + 1
    known = known or one == name
  end
  if not known and count >= most_streams then return { 'full' } end
  epoch, written = (tonumber(epoch or '') or 0) % 1000000000 + 1, 0
  if not known then redis.call('HSET', task_row, 'streams', names .. ' ' .. name) end
  redis.call('DEL', chunks)
end
if first <= written then return { 'done' } end
for i, piece in ipairs(pieces) do
  write('XADD', chunks, digits(epoch) .. '-' .. digits(first + i - 1), 'k', string.sub(piece, 1, 1), 'd', string.sub(piece, 2))
end
redis.call('PEXPIRE', chunks, lifetime)
redis.call('HSET', task_row, field, digits(epoch) .. ' ' .. owner .. ' ' .. digits(first + #pieces - 1))
ring_chunks(task_row, task)
return { 'done' }
