-- Puts players where they stand in one period of a board, if what the board has of them is older.
--
-- KEYS  see keys.py
-- ARGV  how far the clock is ahead of Redis' (ms), when the keys expire (Unix ms; 0: never), `dense`
--       where equal scores share ranks without a gap, `ranked` to return ranks, `force` where an
--       equal version replaces too, the channel and the name under which the change is published,
--       then for each player: id (16 bytes), version (8, big-endian) and, where on the board, place
--       among equals (8) and when it was reached (8), score
--
-- A member of the sorted set is the place among equals and the player's id. Scores stay as they
-- came: as Lua's text they would lose digits. One command reads or writes as many players as it can,
-- since a command costs far more than a further argument of it.
-- Returns old and new rank of each player (0-based, descending; -1: none); nothing without `ranked`,
-- or where the board is not complete.

local board, members, meta, ready, scores, cache = unpack(KEYS)
local offset, expires = tonumber(ARGV[1]), tonumber(ARGV[2])
local dense, ranked, force = ARGV[3] == 'dense', ARGV[4] == 'ranked', ARGV[5] == 'force'
local FIRST, FIELDS = 8, 3
local answer, moved = {}, false
local rows, removed, entries = {}, {}, {} -- as HSET, ZREM and ZADD take them

ranked = ranked and redis.call('EXISTS', ready) == 1

-- Not compared as text: that follows the locale of the server.
local function number(bytes)
  local high, low = struct.unpack('>I4I4', bytes)
  return high * 2 ^ 32 + low
end

local function member(row, user)
  return row and #row > 8 and string.sub(row, 9, 16) .. user or nil
end

local function rank(member)
  return ranked and member and redis.call('ZREVRANK', board, member) or -1
end

local function remove(member)
  local score = dense and redis.call('ZSCORE', board, member)
  redis.call('ZREM', board, member)
  if score and redis.call('ZCOUNT', board, score, score) == 0 then
    redis.call('ZREMRANGEBYSCORE', scores, score, score)
  end
end

local function put(member, score)
  redis.call('ZADD', board, score, member)
  if dense then
    redis.call('ZADD', scores, score, score)
  end
end

-- What is known, by player, and whether each player is named once.
local users, stands, once = {}, {}, true
for i = FIRST, #ARGV, FIELDS do
  users[#users + 1] = ARGV[i]
end
for n, kept in ipairs(redis.call('HMGET', members, unpack(users))) do
  once = once and stands[users[n]] == nil
  stands[users[n]] = kept
end
-- Unless something is asked of the board in between, all move at its end.
local together = once and not ranked and not dense
for i = FIRST, #ARGV, FIELDS do
  local user, row, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local kept = stands[user]
  local was, is = member(kept, user), member(row, user)
  local old = rank(was)
  local new = old
  local newer = kept and number(row) - number(kept)
  if not kept or newer > 0 or (force and newer == 0) then
    stands[user] = row
    rows[#rows + 1] = user
    rows[#rows + 1] = row
    if was ~= is or (is and tonumber(redis.call('ZSCORE', board, is)) ~= tonumber(score)) then
      moved = true
      if together then
        removed[#removed + 1] = was ~= is and was or nil
        entries[#entries + 1] = is and score
        entries[#entries + 1] = is
      else
        if was then
          remove(was)
        end
        if is then
          put(is, score)
        end
        new = rank(is)
      end
    end
  end
  if ranked then
    answer[#answer + 1] = old
    answer[#answer + 1] = new
  end
end

if #removed > 0 then
  redis.call('ZREM', board, unpack(removed))
end
if #entries > 0 then
  redis.call('ZADD', board, unpack(entries))
end
if #rows > 0 then
  redis.call('HSET', members, unpack(rows))
end
if moved then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + offset
  local version = math.max((redis.call('HGET', meta, 'version') or 0) + 1, now)
  redis.call('HSET', meta, 'version', string.format('%.0f', version), 'at', string.format('%.0f', now))
  -- Processes that cache the first entries read them through this key.
  if redis.call('DEL', cache) == 1 then
    redis.call('PUBLISH', ARGV[6], ARGV[7])
  end
end
-- Once is enough, and every further time would be written to the append-only file.
if #rows > 0 and expires > 0 then
  for i = 1, 5 do
    redis.call('PEXPIREAT', KEYS[i], expires, 'NX')
  end
end
return answer
