#!lua flags=allow-oom
-- Counts entries of a stream between two positions, some at a time: it stops at a number of entries and at a number
-- of bytes, so that a long stream or large entries hold the server for a few milliseconds only.
-- KEYS stream (STREAM)
-- ARGS after (which position), up_to (which, '+' for all, a bracket before it leaves it out), most (entries), most_bytes
-- Returns {number, position of the first, position of the last ('' for none), 1 if there may be more}.
local PAGE = 50
local number, bytes, first = 0, 0, ''
while number < most do
  local count = math.min(PAGE, most - number)
  local page = redis.call('XRANGE', stream, '(' .. after, up_to, 'COUNT', count)
  if #page == 0 then return { number, first, number > 0 and after or '', 0 } end
  if first == '' then first = page[1][1] end
  for i = 1, #page do
    for _, value in ipairs(page[i][2]) do bytes = bytes + #value end
  end
  number, after = number + #page, page[#page][1]
  if #page < count then return { number, first, after, 0 } end
  if bytes > most_bytes then break end
end
return { number, first, after, 1 }
