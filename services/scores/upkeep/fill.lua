-- Puts players onto one board and period that is being built, a thousand in two steps instead of
-- one by one. Who is there already came meanwhile, and stays. The board changed last when the
-- newest of their scores was reached, unless it is known to have changed later.
--
-- KEYS  see boards/keys.py
-- ARGV  when the keys expire (Unix ms; 0: never), whether equal scores share ranks without a gap
--       (`dense`), then for each player: id (16 bytes), version (8, big-endian) and, for who is on
--       the board, place among equals (8) and when it was reached (8), score
-- Returns the ids of those who were there already.

local board, members, meta, ready, scores = unpack(KEYS)
local FIRST, FIELDS = 3, 3
local users, there, rows, entries, distinct = {}, {}, {}, {}, {}
local at = tonumber(redis.call('HGET', meta, 'at') or 0)
local known_at = at

for i = FIRST, #ARGV, FIELDS do
  users[#users + 1] = ARGV[i]
end
local kept = redis.call('HMGET', members, unpack(users))
for n, user in ipairs(users) do
  local i = FIRST + (n - 1) * FIELDS
  local row, score = ARGV[i + 1], ARGV[i + 2]
  if kept[n] then
    there[#there + 1] = user
  else
    rows[#rows + 1] = user
    rows[#rows + 1] = row
    if #row > 8 then
      entries[#entries + 1] = score
      entries[#entries + 1] = string.sub(row, 9, 16) .. user
      distinct[#distinct + 1] = score
      distinct[#distinct + 1] = score
      local high, low = struct.unpack('>I4I4', string.sub(row, 17))
      at = math.max(at, high * 2 ^ 32 + low)
    end
  end
end
if #rows > 0 then
  redis.call('HSET', members, unpack(rows))
end
if #entries > 0 then
  redis.call('ZADD', board, unpack(entries))
  if ARGV[2] == 'dense' then
    redis.call('ZADD', scores, unpack(distinct))
  end
end
if at > known_at then
  redis.call('HSET', meta, 'at', string.format('%.0f', at))
end
if tonumber(ARGV[1]) > 0 then
  for _, key in ipairs({board, members, scores}) do
    redis.call('PEXPIREAT', key, ARGV[1])
  end
end
return there
